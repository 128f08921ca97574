"""Causality-inspired Backdoor Defense: train away from what a backdoored network sees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from joblib import Memory
from sklearn.utils._param_validation import Interval, StrOptions

from antibackdoor.backbones import Backbone, Network
from antibackdoor.defenses._cbd_terms import (
    Bottleneck,
    CausalObjective,
    Discriminator,
    LossTrajectory,
    relative_loss,
)
from antibackdoor.defenses._memory import remembered
from antibackdoor.defenses._run import Run
from antibackdoor.defenses._searching import SearchingDefense, judge_doubtful
from antibackdoor.defenses.isolation import (
    LOSS_SCORES,
    Finding,
    Isolation,
    flag_above,
    flag_nothing,
    not_searched,
)
from antibackdoor.training import (
    CrossEntropy,
    HeldLoss,
    ShuffledRows,
    compute_features,
    compute_losses,
)

# What f_B and the search of it depend on, beside the data.
_BEFORE_THE_CLEAN_NETWORK = (
    "backbone",
    "backdoor_epochs",
    "gamma",
    "compare",
    "isolation_ratio",
    "false_alarm_rate",
    "batch_size",
    "learning_rate",
    "momentum",
    "weight_decay",
    "augment",
    "image_shape",
    "layout",
)


class CBDClassifier(SearchingDefense):
    """Causality-inspired Backdoor Defense: trains a clean network on poisoned data.

    An attack opens a second path from image to label. A network f_B is trained first so
    that it learns that path above all; then the network f_C to keep,
    with features Z, is trained away from f_B, with features R, by minimising
    ``- I(Z; Y) + beta * I(Z; X) + independence * I(Z; R)``. The first term is a
    cross-entropy in which a sample counts by
    ``w = loss(f_B) / (loss(f_B) + loss(f_C))``, little where f_B fits it and f_C does
    not.

    By default f_B is also searched for poison, as stage one of `ABLClassifier` is, and of
    what is found f_C learns that its label says nothing. Without the search, as in the paper, a
    row is suspected by 1 - w under the two trained networks: one for poison which f_C has come
    to contradict and zero for a row that f_C explains.

    Parameters
    ----------
    backbone : str, torch.nn.Module or callable, default="auto"
        A name: ``"mlp"``, ``"small-cnn"``, ``"wrn-16-1"`` or any ``"wrn-D-K"``,
        ``"preact-resnet18"``, any classifier of `torchvision.models`, or ``"auto"``,
        which chooses by the shape of `X`. A module is copied and trained further.
        A callable is given the shape of a sample, channels first, and the number
        of classes, and returns a module. The last layer is a `torch.nn.Linear`
        that gives the logits.
    backdoor_epochs : int, default=20
        Epochs of f_B.
    gamma : float or None, default=0.5
        Level in nats at which the loss of f_B is held by local gradient ascent, as in
        ABL: the loss of clean samples stays there and that of the poison falls
        through, so f_B learns the backdoor and little else. None: a plain
        cross-entropy, as in the paper, which must stop early instead.
    compare : {"trajectory", "last"}, default="trajectory"
        Which losses are compared: the geometric mean of those that training saw, of
        f_B after its first quarter and of f_C so far; or the loss under the trained
        f_B and that of f_C in the step, as in the paper.
    isolation_ratio : "auto" or None, default="auto"
        ``"auto"``: f_B is searched for poison; f_C is trained without the doubtful rows, and
        learns by negative learning that the label of those found says nothing, if they were
        recognised as rows of other classes. What is flagged are the rows found
        and the doubtful ones it rejects. None, and for tables, whose
        natural clusters look like poison to the search: nothing but the weights keeps f_C
        from the poison, as in the paper, and `rejection` says who is flagged.
    false_alarm_rate : float, default=0.05
        Probability to flag anything in clean data, at ``isolation_ratio="auto"``. It rests on
        how clean classes behaved in the benchmarks, not on the data at hand. A class with many
        wrong labels is not clean.
    clean_epochs : int, default=100
        Epochs of f_C.
    reweight : bool, default=True
        Whether samples are weighted; False: a plain cross-entropy.
    independence : float, default=0.01
        Factor of I(Z; R), estimated by a discriminator of joint and shuffled pairs
        under a spectral-norm constraint. Zero switches the term off.
    bottleneck : float, default=0.0001
        Factor beta of I(Z; X), bounded by a Gaussian variational bottleneck. Zero
        switches the term off.
    rejection : float, default=0.25
        Where f_B is not searched, rows whose weight is below this share of the median weight
        are flagged at the end. With ``compare="trajectory"`` and `reweight`, such samples count
        nothing after the first quarter of the epochs of f_C, and all others the same. Zero
        rejects and flags nobody, as in the paper.
    memory : str, joblib.Memory or None, default=None
        Where f_B and what was found in it are kept, so that a search over what comes after
        computes them once; a folder or a memory, as in `sklearn.pipeline.Pipeline`. Callbacks are
        told of their epochs only where they are computed, and what one has cut short is kept
        so. Only for a `backbone` given by name.
    batch_size : int, default=128
        Samples of a step. Where it is searched, the backdoored network and those that are asked
        take fewer: 32; still fewer of less than 1,280 rows, more of more than 5,120, for about
        40 to 160 steps an epoch, but never more than this.
    learning_rate : float, default=0.1
        Highest rate of the schedule of stochastic gradient descent.
    lr_schedule : {"onecycle", "cosine", "constant"} or array-like of int, \
            default="onecycle"
        How the rate changes over the training of f_C; f_B keeps it constant.
        Integers are the epochs from which it is divided by ten once more.
    momentum : float, default=0.9
        Nesterov momentum.
    weight_decay : float, default=5e-4
        Factor of the squared norm of the weights.
    augment : "auto", None or array-like of {"crop", "flip", "cutout"}, default="auto"
        Random changes of the images in the training of f_C, and of f_B if its loss is
        not held. ``"auto"``: crops of images of 16 pixels and more, and mirror images
        where they have colours.
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
    checkpoint_dir : str or path, default=None
        Directory, made if it is not there, in which the fit is written down after every
        epoch. A fit of the same data and parameters goes on from there, to the same result.
        It needs the extra ``[persist]``, and is for one fit at a time: not for searches.
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
        Suspicion of every training row between 0 and 1, higher is worse; 1 - w where f_B
        is not searched.
    isolate_threshold_ : float
        Rows with a score above it are flagged.
    isolate_classes_ : numpy.ndarray of shape (n_suspect_classes,)
        Labels that bear the flagged rows: the suspect target classes.
    isolate_pvalue_ : float
        Probability that clean data shows as strong a sign of poison in any class; nan where
        f_B is not searched. Images of fewer than four classes of twenty rows cannot be: a
        UserWarning says so, and nothing is flagged.
    isolate_signs_ : dict of str to numpy.ndarray of shape (n_classes,)
        What speaks against each class; see `ABLClassifier`. Empty where f_B is not searched.
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
    >>> from antibackdoor import CBDClassifier, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="badnets", random_state=0)
    >>> clf = CBDClassifier(backdoor_epochs=2, clean_epochs=2, random_state=0).fit(X_bad, y_bad)
    >>> clf.predict(X).shape
    (1797,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SearchingDefense._parameter_constraints,
        "backdoor_epochs": [Interval(Integral, 1, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="left"), None],
        "compare": [StrOptions({"trajectory", "last"})],
        "isolation_ratio": [StrOptions({"auto"}), None],
        "clean_epochs": [Interval(Integral, 1, None, closed="left")],
        "reweight": ["boolean"],
        "independence": [Interval(Real, 0, None, closed="left")],
        "bottleneck": [Interval(Real, 0, None, closed="left")],
        "rejection": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        *,
        backbone: Backbone = "auto",
        backdoor_epochs: int = 20,
        gamma: float | None = 0.5,
        compare: Literal["trajectory", "last"] = "trajectory",
        isolation_ratio: Literal["auto"] | None = "auto",
        false_alarm_rate: float = 0.05,
        clean_epochs: int = 100,
        reweight: bool = True,
        independence: float = 0.01,
        bottleneck: float = 1e-4,
        rejection: float = 0.25,
        memory: str | Memory | None = None,
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
        checkpoint_dir: str | os.PathLike[str] | None = None,
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
            checkpoint_dir=checkpoint_dir,
            random_state=random_state,
        )
        self.backdoor_epochs = backdoor_epochs
        self.gamma = gamma
        self.compare = compare
        self.isolation_ratio = isolation_ratio
        self.false_alarm_rate = false_alarm_rate
        self.clean_epochs = clean_epochs
        self.reweight = reweight
        self.independence = independence
        self.bottleneck = bottleneck
        self.rejection = rejection
        self.memory = memory

    @classmethod
    def from_paper(cls, **changes: Any) -> Self:
        """Return the classifier with the settings of the paper.

        Five epochs of f_B and a hundred of f_C, both with augmentation, all three terms;
        batches of 64, learning rate 0.1 divided by ten at epochs 20 and 70, weight decay
        1e-4. Two things differ: the momentum is Nesterov's, and f_B is asked once about
        each row as it is, not in every epoch about its augmented form. For tables, whose
        rows cannot be augmented, give ``augment=None``.

        Parameters
        ----------
        **changes : dict
            Parameters to set otherwise.

        Returns
        -------
        CBDClassifier
        """
        settings: dict[str, Any] = {
            "backdoor_epochs": 5,
            "gamma": None,
            "compare": "last",
            "isolation_ratio": None,
            "rejection": 0.0,
            "clean_epochs": 100,
            "reweight": True,
            "independence": 0.01,
            "bottleneck": 1e-4,
            "batch_size": 64,
            "learning_rate": 0.1,
            "lr_schedule": (20, 70),
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "augment": ("crop", "flip", "cutout"),
        }
        return cls(**{**settings, **changes})

    def _n_phases(self) -> int:
        return 2 + self._n_examinations()

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        backdoored = run.new_network()
        backdoored_losses, finding = remembered(
            self.memory,
            run,
            backdoored,
            {name: getattr(self, name) for name in _BEFORE_THE_CLEAN_NETWORK},
            lambda: self._train_backdoored(run, backdoored),
        )
        # f_B is frozen now: one pass gives all that it will ever say.
        features = compute_features(backdoored, run.samples)
        self._keep_finding(run, finding)

        clean = run.new_network()
        clean_losses = self._train_clean(run, clean, features, backdoored_losses, finding)
        if self._searches(run):
            return clean, judge_doubtful(run, clean, finding.isolation, finding.trusted)
        weights = relative_loss(backdoored_losses.double(), clean_losses.double()).cpu().numpy()
        return clean, flag_above(1 - weights, 1 - self.rejection * float(np.median(weights)))

    def _train_backdoored(self, run: Run, network: Network) -> tuple[torch.Tensor, Finding]:
        recorded = self._run_phase(
            run,
            "backdoor",
            network,
            epochs=self.backdoor_epochs,
            objective=CrossEntropy()
            if self.gamma is None
            else HeldLoss("lga", self.gamma, "batch"),
            recipe=self._recipe(
                run,
                schedule="constant",
                # A held loss cannot overfit, and augmentation would blur a local trigger.
                augmentation=run.augmentation if self.gamma is None else None,
            ),
            batches=ShuffledRows(run.every_row, self._search_batch(run)),
            keep_losses=True,
        )
        if self.compare == "last":
            losses = compute_losses(network, run.samples, run.labels)
        else:
            # In the first epochs the network has not met the trigger often enough to tell.
            trajectory = LossTrajectory(len(run.samples), run.device)
            for seen in recorded[len(recorded) // 4 :]:
                trajectory.add(run.every_row, seen)
            losses = trajectory.mean(run.every_row)
        if not self._searches(run):
            return losses, not_searched(flag_nothing(len(run.samples)))
        scores = LOSS_SCORES["trajectory"](torch.stack(recorded).double().cpu().numpy())
        return losses, self._search(run, network, scores, self.backdoor_epochs)

    def _train_clean(
        self,
        run: Run,
        network: Network,
        backdoored_features: torch.Tensor,
        backdoored_losses: torch.Tensor,
        finding: Finding,
    ) -> torch.Tensor:
        n_features = network.head.in_features
        discriminator = bottleneck = trajectory = None
        if self.independence > 0:
            discriminator = Discriminator(n_features, backdoored_features.shape[1])
            discriminator.to(run.device, run.samples.dtype)
        if self.bottleneck > 0:
            bottleneck = Bottleneck(n_features).to(run.device, run.samples.dtype)
        if self.compare == "trajectory":
            trajectory = LossTrajectory(len(run.samples), run.device)
        parameters = list(network.parameters())
        if bottleneck is not None:
            parameters += bottleneck.parameters()
        self._run_phase(
            run,
            "clean",
            network,
            epochs=self.clean_epochs,
            objective=CausalObjective(
                backdoored_features=backdoored_features,
                backdoored_losses=backdoored_losses.to(run.samples.dtype),
                discriminator=discriminator,
                independence=self.independence,
                bottleneck=bottleneck,
                beta=self.bottleneck,
                reweight=self.reweight,
                trajectory=trajectory,
                # The search takes the place of rejection, which costs clean data a class at times.
                rejection=0.0 if self._searches(run) else self.rejection,
                soft_epochs=max(1, self.clean_epochs // 4),
                denied=torch.as_tensor(finding.denied, device=run.device),
                generator=run.generator,
            ),
            recipe=self._recipe(run),
            batches=ShuffledRows(run.rows(finding.trusted | finding.denied), self.batch_size),
            parameters=parameters,
        )
        if trajectory is None:
            return compute_losses(network, run.samples, run.labels)
        return trajectory.mean(run.every_row)
