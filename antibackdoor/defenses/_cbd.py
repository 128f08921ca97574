"""Causality-inspired Backdoor Defense: train away from what a backdoored network sees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from antibackdoor.backbones import Backbone, Network
from antibackdoor.defenses._cbd_terms import (
    Bottleneck,
    CausalObjective,
    Discriminator,
    LossTrajectory,
    relative_loss,
)
from antibackdoor.defenses._cures import judge_doubtful
from antibackdoor.defenses._detecting import DetectingDefense
from antibackdoor.detection import BaseDetector, Detection, Isolation, LossRank, flag_above
from antibackdoor.training import Run, ShuffledRows, compute_features, compute_losses
from antibackdoor.utils import CheckedParameters, ImageLayout

# Below this share of the median weight the default rejects rows of a table, which is not searched.
_REJECTION_IN_TABLES = 0.25


class RelativeLoss(CheckedParameters):
    """How CBD weighs a sample: ``w = l(f_B) / (l(f_B) + l(f_C))``, equation 5 of the paper.

    Parameters
    ----------
    compare : {"trajectory", "last"}, default="trajectory"
        Which losses are compared: the geometric mean of those that training saw, of
        f_B after its first quarter and of f_C so far; or the loss under the trained
        f_B and that of f_C in the step, as in the paper.
    rejection : float, default=0.0
        Rows whose weight is below this share of the median weight count nothing after the first
        quarter of the epochs of f_C, where the trajectories are compared, and all others the
        same. Where the detector lists no rows they are flagged at the end. Zero, as in the paper:
        none.

    Examples
    --------
    >>> from antibackdoor import CBDClassifier, LossRank, RelativeLoss
    >>> clf = CBDClassifier(detector=LossRank(ratio=None), weighting=RelativeLoss(rejection=0.25))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "compare": [StrOptions({"trajectory", "last"})],
        "rejection": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self, *, compare: Literal["trajectory", "last"] = "trajectory", rejection: float = 0.0
    ) -> None:
        self.compare = compare
        self.rejection = rejection


class CBDClassifier(DetectingDefense):
    """Causality-inspired Backdoor Defense: trains a clean network on poisoned data.

    Call `fit` with all the data there is, then `predict`::

        clf = CBDClassifier().fit(X, y)
        clf.isolate_         # suspect rows, most suspect first
        clf.predict(X_test)  # by a network that was trained away from the backdoor

    An attack opens a second path from image to label. A network f_B is trained first so
    that it learns that path above all; then the network f_C to keep,
    with features Z, is trained away from f_B, with features R, by minimising
    ``- I(Z; Y) + beta * I(Z; X) + independence * I(Z; R)``. The first term is a
    cross-entropy in which a sample counts by
    ``w = loss(f_B) / (loss(f_B) + loss(f_C))``, little where f_B fits it and f_C does
    not.

    f_B is the network of a detector. By default that is the `PoisonSearch`, and of what it finds
    f_C learns that its label says nothing. With a detector that lists no rows, as in the paper, a
    row is suspected by 1 - w under the two trained networks: one for poison which f_C has come
    to contradict and zero for a row that f_C explains.

    Parameters
    ----------
    detector : BaseDetector, default=None
        Trains f_B and tells which rows are suspect. It takes `backbone`, `image_shape`, `layout`,
        `device`, `compile` and `random_state` from the classifier where its own are left at
        their default. ``LossRank(ratio=None)`` trains f_B and lists no rows, as in the paper.
        None: the best known, which is ``PoisonSearch()``, and ``LossRank(ratio=None)`` for
        tables.
    weighting : RelativeLoss, "none" or None, default=None
        How samples are weighed. ``"none"``: a plain cross-entropy. None: the best known, which
        is ``RelativeLoss()``, and ``RelativeLoss(rejection=0.25)`` for tables.
    independence : float, default=0.01
        Factor of I(Z; R), estimated by a discriminator of joint and shuffled pairs
        under a spectral-norm constraint. Zero switches the term off.
    bottleneck : float, default=0.0001
        Factor beta of I(Z; X), bounded by a Gaussian variational bottleneck. Zero
        switches the term off.
    epochs : int, default=100
        Epochs of f_C.
    backbone : str, torch.nn.Module or callable, default="auto"
        A name: ``"mlp"``, ``"small-cnn"``, ``"wrn-16-1"`` or any ``"wrn-D-K"``,
        ``"preact-resnet18"``, any classifier of `torchvision.models`, or ``"auto"``,
        which chooses by the shape of `X`. A module is copied and trained further.
        A callable is given the shape of a sample, channels first, and the number
        of classes, and returns a module. The last layer is a `torch.nn.Linear`
        that gives the logits.
    batch_size : int, default=128
        Samples of a step of f_C.
    learning_rate : float, default=0.1
        Highest rate of the schedule of stochastic gradient descent.
    lr_schedule : {"onecycle", "cosine", "constant"} or array-like of int, \
            default="onecycle"
        How the rate changes over the training of f_C. Integers are the epochs from which it is
        divided by ten once more.
    momentum : float, default=0.9
        Nesterov momentum.
    weight_decay : float, default=5e-4
        Factor of the squared norm of the weights.
    augment : "auto", None or array-like of {"crop", "flip", "cutout"}, default="auto"
        Random changes of the images in the training of f_C. ``"auto"``: crops of images of 16
        pixels and more, and mirror images where they have colours.
    image_shape : tuple of int, default=None
        (H, W), (H, W, C) or (C, H, W): what the rows of a 2-D `X` fold into.
        None: a 2-D `X` is a table.
    layout : {"auto", "channels_first", "channels_last"}, default="auto"
        Where images have their channels. ``"auto"`` asks for it, by a ValueError,
        where the shape does not tell.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA where there is one, else the CPU.
    compile : {"auto", True, False}, default="auto"
        Whether networks in training go through `torch.compile`. ``"auto"``: on CUDA. Where that
        fails, one RuntimeWarning says so and the fit goes on without.
    cache_dir : str or path, default=None
        Folder, made if it is not there, in which every phase of the training is kept, epoch by
        epoch. A fit that was killed goes on from there, and fits that begin alike, such as those
        of a search, train what they share once: to the same result, any number at a time. It
        needs the extra ``[persist]``.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the order of the samples and the augmentation.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_classes,)
        Labels, sorted.
    module_ : torch.nn.Module
        The clean network f_C. It takes float inputs, images as (n, C, H, W), and
        gives logits.
    isolate_ : numpy.ndarray of shape (n_isolated,), int64
        Flagged training rows, most suspect first.
    isolate_mask_ : numpy.ndarray of shape (n_samples,), bool
        The same, as a mask.
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Suspicion of every training row, higher is worse; 1 - w where the detector lists none.
    isolate_threshold_ : float
        Rows with a score above it are flagged.
    isolate_classes_ : numpy.ndarray of shape (n_suspect_classes,)
        Labels that bear the flagged rows: the suspect target classes.
    isolate_pvalue_ : float
        Probability that clean data shows as strong a sign of poison in any class; nan where
        nothing was tested.
    isolate_signs_ : dict of str to numpy.ndarray of shape (n_classes,)
        Signs of poison in each class; see `ABLClassifier`. Empty where nothing was tested.
    history_ : list of dict
        A row for every epoch: phase, epoch, objective (value minimised), loss (mean
        cross-entropy, nats), accuracy (both on the labels that came with the rows of the
        phase, those to be unlearned among them), learning_rate, seconds.
    n_features_in_ : int
        ``X.shape[1]``.
    input_shape_ : tuple of int
        Shape of a row of `X`.

    See Also
    --------
    ABLClassifier : Isolates poison by its low loss and unlearns it.
    UndefendedClassifier : The same training without a defence.

    References
    ----------
    Zhang, Liu, Wang, Lu & Hu, Backdoor Defense via Deconfounded Representation
    Learning, CVPR 2023.

    Kim, Yim, Yun & Kim, NLNL: Negative Learning for Noisy Labels, ICCV 2019.

    Examples
    --------
    >>> from antibackdoor import CBDClassifier, PoisonSearch, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="badnets", random_state=0)
    >>> clf = CBDClassifier(detector=PoisonSearch(epochs=5), epochs=2, random_state=0)
    >>> clf = clf.fit(X_bad, y_bad)
    >>> clf.predict(X).shape
    (1797,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DetectingDefense._parameter_constraints,
        "weighting": [RelativeLoss, StrOptions({"none"}), None],
        "independence": [Interval(Real, 0, None, closed="left")],
        "bottleneck": [Interval(Real, 0, None, closed="left")],
        "epochs": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        detector: BaseDetector | None = None,
        weighting: RelativeLoss | Literal["none"] | None = None,
        independence: float = 0.01,
        bottleneck: float = 1e-4,
        epochs: int = 100,
        backbone: Backbone = "auto",
        batch_size: int = 128,
        learning_rate: float = 0.1,
        lr_schedule: str | Sequence[int] = "onecycle",
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        augment: str | Sequence[str] | None = "auto",
        image_shape: Sequence[int] | None = None,
        layout: Literal["auto", "channels_first", "channels_last"] = "auto",
        device: str | torch.device = "auto",
        compile: bool | Literal["auto"] = "auto",
        cache_dir: str | os.PathLike[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            batch_size=batch_size,
            learning_rate=learning_rate,
            lr_schedule=lr_schedule,
            momentum=momentum,
            weight_decay=weight_decay,
            augment=augment,
            image_shape=image_shape,
            layout=layout,
            device=device,
            compile=compile,
            cache_dir=cache_dir,
            random_state=random_state,
        )
        self.detector = detector
        self.weighting = weighting
        self.independence = independence
        self.bottleneck = bottleneck
        self.epochs = epochs

    @classmethod
    def from_paper(cls, **changes: Any) -> Self:
        """Return the classifier with the settings of the paper.

        Five epochs of f_B and a hundred of f_C, both with augmentation, all three terms;
        batches of 64, learning rate 0.1 divided by ten at epochs 20 and 70, weight decay
        1e-4. Two things differ: the momentum is Nesterov's, and f_B is asked once about
        each row as it is, not in every epoch about its augmented form. For tables, whose
        rows cannot be augmented, give ``augment=None, detector__augment=None``.

        Parameters
        ----------
        **changes : dict
            Parameters to set otherwise, those of detector and weighting as ``detector__name``
            and ``weighting__name``.

        Returns
        -------
        CBDClassifier
        """
        shared: dict[str, Any] = {
            "batch_size": 64,
            "learning_rate": 0.1,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "augment": ("crop", "flip", "cutout"),
        }
        classifier = cls(
            detector=LossRank(ratio=None, epochs=5, gamma=None, **shared),
            weighting=RelativeLoss(compare="last", rejection=0.0),
            independence=0.01,
            bottleneck=1e-4,
            epochs=100,
            lr_schedule=(20, 70),
            **shared,
        )
        return classifier.set_params(**changes)

    def _n_phases(self) -> int:
        # Any other detector may leave no network, and f_B is trained by itself then.
        n_backdoored = 0 if isinstance(self.detector, LossRank) else 1
        return self._n_detector_phases() + n_backdoored + 1

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        detection = self._detection(run)
        if detection.network is None:  # of a person's list, or of data that cannot be searched
            backdoored = self._ask(LossRank(ratio=None), run)
            detection = replace(detection, network=backdoored.network, losses=backdoored.losses)
        assert detection.network is not None
        weighting = self._resolve_weighting(run.samples.layout)
        # f_B is frozen now: one pass gives all that it will ever say.
        features = compute_features(detection.network, run.samples)
        backdoored_losses = self._backdoored_losses(run, detection, weighting)
        network = run.new_network()
        clean_losses = self._train_clean(
            run, network, features, backdoored_losses, weighting, detection
        )
        if detection.is_complete or detection.isolation.mask.any():
            return network, judge_doubtful(run, network, detection)
        weights = relative_loss(backdoored_losses.double(), clean_losses.double()).cpu().numpy()
        rejection = 0.0 if weighting is None else weighting.rejection
        return network, flag_above(1 - weights, 1 - rejection * float(np.median(weights)))

    def _detector_of_tables(self) -> BaseDetector:
        return LossRank(ratio=None)

    def _resolve_weighting(self, layout: ImageLayout | None) -> RelativeLoss | None:
        """Return how samples are weighed; None where they are not."""
        if self.weighting is None:
            return RelativeLoss(rejection=_REJECTION_IN_TABLES if layout is None else 0.0)
        return None if isinstance(self.weighting, str) else self.weighting

    def _backdoored_losses(
        self, run: Run, detection: Detection, weighting: RelativeLoss | None
    ) -> torch.Tensor:
        """Return the losses of f_B that those of f_C are compared with, in nats."""
        assert detection.network is not None
        if weighting is not None and weighting.compare == "last":
            return compute_losses(detection.network, run.samples, run.labels)
        # In the first epochs the network has not met the trigger often enough to tell.
        trajectory = LossTrajectory(len(run.samples), run.device)
        for seen in detection.losses[len(detection.losses) // 4 :]:
            trajectory.add(run.every_row, torch.as_tensor(seen, device=run.device))
        return trajectory.mean(run.every_row)

    def _train_clean(
        self,
        run: Run,
        network: Network,
        backdoored_features: torch.Tensor,
        backdoored_losses: torch.Tensor,
        weighting: RelativeLoss | None,
        detection: Detection,
    ) -> torch.Tensor:
        """Train f_C, and return its losses that those of f_B are compared with."""
        n_features = network.head.in_features
        discriminator = bottleneck = trajectory = None
        if self.independence > 0:
            discriminator = Discriminator(n_features, backdoored_features.shape[1])
            discriminator.to(run.device, run.samples.dtype)
        if self.bottleneck > 0:
            bottleneck = Bottleneck(n_features).to(run.device, run.samples.dtype)
        if weighting is None or weighting.compare == "trajectory":
            trajectory = LossTrajectory(len(run.samples), run.device)
        parameters = list(network.parameters())
        if bottleneck is not None:
            parameters += bottleneck.parameters()
        complementary = detection.complementary
        run.phase(
            "clean",
            network,
            CausalObjective(
                backdoored_features=backdoored_features,
                backdoored_losses=backdoored_losses.to(run.samples.dtype),
                discriminator=discriminator,
                independence=self.independence,
                bottleneck=bottleneck,
                beta=self.bottleneck,
                reweight=weighting is not None,
                trajectory=trajectory,
                rejection=0.0 if weighting is None else weighting.rejection,
                soft_epochs=max(1, self.epochs // 4),
                complementary=torch.as_tensor(complementary, device=run.device),
                generator=run.generator,
            ),
            epochs=self.epochs,
            batches=ShuffledRows(run.rows(detection.trusted | complementary), run.batch_size),
            parameters=parameters,
        )
        if trajectory is None:
            return compute_losses(network, run.samples, run.labels)
        return trajectory.mean(run.every_row)

    def _check_before_training(self) -> None:
        super()._check_before_training()
        if isinstance(self.weighting, RelativeLoss):
            self.weighting._validate_params()
