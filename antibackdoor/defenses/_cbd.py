"""Causality-inspired Backdoor Defense: train a network to differ from a backdoored one."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from antibackdoor.backbones import Network
from antibackdoor.defenses._cbd_terms import (
    Bottleneck,
    CausalObjective,
    Discriminator,
    LossTrajectory,
    relative_loss,
)
from antibackdoor.defenses._cures import judge_doubtful
from antibackdoor.defenses._detecting import DetectingDefense
from antibackdoor.defenses._relative_loss import RelativeLoss
from antibackdoor.detection import (
    BaseDetector,
    Detection,
    Isolation,
    LossRank,
    flag_above,
    settle,
)
from antibackdoor.training import Passes, Run, ShuffledRows, compute_features, compute_losses
from antibackdoor.utils import ImageLayout, parameters

# Tables are not searched. There the default rejects rows below this share of the median weight.
_REJECTION_IN_TABLES = 0.25


@parameters
class CBDClassifier(DetectingDefense):
    """Causality-inspired Backdoor Defense: trains a clean network on poisoned data.

    Call `fit` with all the data there is, then `predict`::

        clf = CBDClassifier().fit(X, y)
        clf.isolate_  # suspect rows, most suspect first
        clf.predict(X_test)  # by a network trained to differ from a backdoored one

    Two networks are trained. The first, f_B, learns the backdoor above all: the shortcut from
    trigger to label. The second, f_C, is the one that is kept. Its features Z are trained to be
    independent of the features R of f_B, by minimising
    ``- I(Z; Y) + beta * I(Z; X) + independence * I(Z; R)``. The first term is a weighted
    cross-entropy, with weights ``w = loss(f_B) / (loss(f_B) + loss(f_C))``: rows that f_B fits
    and f_C does not count little.

    f_B is the network of a detector, by default of `PoisonSearch`. f_C learns by negative
    learning that the labels of the rows found are wrong. A detector that lists no rows is the
    paper's case. The suspicion score of a row is then 1 - w under the two trained networks: near
    1 for poison that f_C contradicts, near 0 for a row that f_C explains.

    Parameters
    ----------
    detector : BaseDetector, default=None
        Trains f_B and lists the suspect rows. Its `backbone`, `image_shape`, `layout`, `device`,
        `compile` and `random_state` follow the classifier's unless they are set.
        ``LossRank(ratio=None)`` trains f_B and lists no rows, as in the paper. None: the best
        known, ``PoisonSearch()`` for images and ``LossRank(ratio=None)`` for tables.
    weighting : RelativeLoss, "none" or None, default=None
        Sample weights. ``"none"``: a plain cross-entropy. None: the best known,
        ``RelativeLoss()`` for images and ``RelativeLoss(rejection=0.25)`` for tables.
    independence : float, default=0.01
        Factor of I(Z; R), estimated by a discriminator of joint and shuffled pairs
        under a spectral-norm constraint. Zero switches the term off.
    bottleneck : float, default=0.0001
        Factor beta of I(Z; X), bounded by a Gaussian variational bottleneck. Zero
        switches the term off.
    epochs : int, default=25
        Epochs of f_C.
    backbone
    batch_size : int or "auto", default="auto"
        Samples per training step of f_C. ``"auto"``: a 160th of the rows, from 32 to 128.
    optimizer, learning_rate, lr_schedule, momentum, weight_decay
    augment : "auto", None or array-like of {"crop", "flip", "cutout"}, default="auto"
        Random changes of the images in the training of f_C. ``"auto"``: ``"crop"`` for images of
        16 pixels and more, ``"flip"`` for colour images.
    image_shape, layout, device, compile, cache_dir, random_state

    Attributes
    ----------
    classes_
    module_ : torch.nn.Module
        The clean network f_C. It takes float inputs, images as (n, C, H, W), and
        gives logits.
    isolate_, isolate_mask_
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Suspicion score of every training row; higher is more suspect. It is 1 - w if the
        detector lists no rows.
    isolate_threshold_, isolate_classes_, isolate_pvalue_
    isolate_signs_ : dict of str to numpy.ndarray of shape (n_classes,)
        Evidence of poison in each class; see `ABLClassifier`. Empty where nothing was tested.
    history_, n_features_in_, input_shape_

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
    The defaults take minutes on all digits. Here the paper's detector, on a part of them:

    >>> from antibackdoor import CBDClassifier, LossRank, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X[:300], y[:300], random_state=0)
    >>> detector = LossRank(ratio=None, epochs=2)
    >>> clf = CBDClassifier(detector=detector, epochs=2, random_state=0)
    >>> clf = clf.fit(X_bad, y_bad)
    >>> clf.predict(X).shape
    (1797,)
    """

    weighting: RelativeLoss | Literal["none"] | None = None
    independence: float = 0.01
    bottleneck: float = 1e-4
    epochs: int = 25

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "weighting": [RelativeLoss, StrOptions({"none"}), None],
        "independence": [Interval(Real, 0, None, closed="left")],
        "bottleneck": [Interval(Real, 0, None, closed="left")],
        "epochs": [Interval(Integral, 1, None, closed="left")],
    }

    @classmethod
    def from_paper(cls, **changes: Any) -> Self:
        """Return the classifier with the settings of the paper.

        f_B trains for five epochs and f_C for a hundred, both with augmentation, with all three
        terms. Batches are of 64, the weight decay is 1e-4. The learning rate is 0.1, divided by
        ten at epochs 20 and 70.

        Two things differ from the paper. The momentum is Nesterov's. f_B predicts each row once,
        without augmentation, not in every epoch with it.

        Tables cannot be augmented; for them give ``augment=None, detector__augment=None``.

        Parameters
        ----------
        **changes : dict
            Parameters to change. Those of the detector and the weighting are ``detector__name``
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
            optimizer="sgd",
            **shared,
        )
        return classifier.set_params(**changes)

    def _n_phases(self) -> int:
        # Other detectors may return no network. Then f_B needs a phase of its own.
        n_backdoored = 0 if isinstance(self.detector, LossRank) else 1
        return self._n_detector_phases() + n_backdoored + 1

    def _passes(self, n_rows: int, *, images: bool = True, reviewed: bool = False) -> list[Passes]:
        expected = super()._passes(n_rows, images=images, reviewed=reviewed)
        # A list holds no network either.
        backdoored = settle(LossRank(), self)._passes(n_rows) if reviewed else []
        return [*backdoored, *expected]

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        detection = self._detection(run)
        if detection.network is None:  # a list was given, or the data cannot be searched
            backdoored = self._ask(LossRank(ratio=None), run)
            detection = replace(detection, network=backdoored.network, losses=backdoored.losses)
        assert detection.network is not None
        weighting = self._resolve_weighting(run.samples.layout)
        # f_B is frozen now: its features are computed once.
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
        """Return the sample weights to use; None for a plain cross-entropy."""
        if self.weighting is None:
            return RelativeLoss(rejection=_REJECTION_IN_TABLES if layout is None else 0.0)
        return None if isinstance(self.weighting, str) else self.weighting

    def _backdoored_losses(
        self, run: Run, detection: Detection, weighting: RelativeLoss | None
    ) -> torch.Tensor:
        """Return the losses of f_B to compare those of f_C with, in nats."""
        assert detection.network is not None
        if weighting is not None and weighting.compare == "last":
            return compute_losses(detection.network, run.samples, run.labels)
        # In the first epochs f_B has not seen the trigger often enough to fit it.
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
        """Train f_C, and return its losses to compare those of f_B with, in nats."""
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
