"""Anti-Backdoor Learning: isolate the poison, then train a network that is clean of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from antibackdoor.backbones import Backbone, Network
from antibackdoor.defenses._cures import Cure, NegativeLearning
from antibackdoor.defenses._detecting import DetectingDefense
from antibackdoor.defenses._unlearning import Ascent, Joint, Mixed
from antibackdoor.detection import BaseDetector, Isolation, LossRank
from antibackdoor.training import Run
from antibackdoor.utils import Fitted, FittedNumber

_PAPERS: dict[str, Any] = {
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
}
_AUGMENT = ("crop", "flip", "cutout")


class ABLClassifier(DetectingDefense):
    """Anti-Backdoor Learning: trains a clean network on poisoned data.

    Call `fit` with all the data there is, then `predict`::

        clf = ABLClassifier().fit(X, y)
        clf.isolate_         # suspect rows, most suspect first
        clf.predict(X_test)  # by a network that has not learned them

    Stage one detects: a network fits backdoored samples faster than clean ones, or in another
    way, and a detector tells which rows they are. Stage two cures: it trains the network that is
    kept without them, and by default tells it that their labels say nothing. No clean data is
    needed, nor any knowledge of the trigger.

    By default the suspect rows are not a fixed share. The `PoisonSearch` tells whether there is
    poison at all; where there is none, nothing is flagged and all rows are trained on.

    Parameters
    ----------
    detector : BaseDetector, default=None
        Tells which rows are suspect, such as `PoisonSearch` or `LossRank`. It takes `backbone`,
        `image_shape`, `layout`, `device`, `compile` and `random_state` from the classifier where
        its own are left at their default. None: the best known, which is ``PoisonSearch()``, and
        ``LossRank()`` for tables.
    cure : Cure, default=None
        What is done about them: `NegativeLearning`, `Retrain`, `Mixed`, `Ascent` or `Joint`.
        None: the best known, which is ``NegativeLearning()`` where the detector lists all of the
        poison, and ``Mixed()`` where it isolates a share of it, as `LossRank` does.
    epochs : int, default=60
        Epochs of the network that is kept; a cure that unlearns has some more of its own.
    backbone : str, torch.nn.Module or callable, default="auto"
        A name: ``"mlp"``, ``"small-cnn"``, ``"wrn-16-1"`` or any ``"wrn-D-K"``,
        ``"preact-resnet18"``, any classifier of `torchvision.models`, or ``"auto"``,
        which chooses by the shape of `X`. A module is copied and trained further.
        A callable is given the shape of a sample, channels first, and the number
        of classes, and returns a module. The last layer is a `torch.nn.Linear`
        that gives the logits.
    batch_size : int, default=128
        Samples of a step.
    learning_rate : float, default=0.1
        Highest rate of the schedule of stochastic gradient descent.
    lr_schedule : {"onecycle", "cosine", "constant"} or array-like of int, \
            default="onecycle"
        How the rate changes over the epochs. Integers are the epochs from which it is divided
        by ten once more.
    momentum : float, default=0.9
        Nesterov momentum.
    weight_decay : float, default=5e-4
        Factor of the squared norm of the weights.
    augment : "auto", None or array-like of {"crop", "flip", "cutout"}, default="auto"
        Random changes of the images. ``"auto"``: crops of images of 16 pixels and more, and
        mirror images where they have colours.
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
        The clean network. It takes float inputs, images as (n, C, H, W), and
        gives logits.
    isolate_ : numpy.ndarray of shape (n_isolated,), int64
        Flagged training rows, most suspect first.
    isolate_mask_ : numpy.ndarray of shape (n_samples,), bool
        The same, as a mask.
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Suspicion of every training row, higher is worse.
    isolate_threshold_ : float
        Rows with a score above it are flagged.
    isolate_classes_ : numpy.ndarray of shape (n_suspect_classes,)
        Labels that bear the flagged rows: the suspect target classes.
    isolate_pvalue_ : float
        Probability that clean data shows as strong a sign of poison in any class; nan where
        nothing was tested: of a fixed share, a table, or fewer than four classes.
    isolate_signs_ : dict of str to numpy.ndarray of shape (n_classes,)
        Signs of poison in each class of `classes_`, nan where not looked at. ``"diversity"``: how
        differently a network that was trained without the class predicts the rows of its most
        foreign part, as a share of what rows of other classes give. ``"transplant"``: rise of the
        share of rows of other classes that are taken for it when the difference of its parts is
        added to them. ``"relabelling"``: share of its rows that what the foreign rows of all
        classes share turns into one other class.
        Empty where nothing is tested.
    unlearned_ : bool
        False where nothing was isolated or `Mixed` unlearning was taken back: the
        network is then as fine-tuning left it, with whatever backdoor there is. A longer
        stage one often mends it.
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
    CBDClassifier : Trains away from what a backdoored network sees.
    UndefendedClassifier : The same training without a defence.

    References
    ----------
    Li, Lyu, Koren, Lyu, Li & Ma, Anti-Backdoor Learning: Training Clean Models on
    Poisoned Data, NeurIPS 2021.

    Kim, Yim, Yun & Kim, NLNL: Negative Learning for Noisy Labels, ICCV 2019.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, PoisonSearch, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="badnets", random_state=0)
    >>> clf = ABLClassifier(detector=PoisonSearch(epochs=5), epochs=5, random_state=0)
    >>> clf = clf.fit(X_bad, y_bad)
    >>> clf.isolate_classes_
    array([0])
    """

    unlearned_: bool

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DetectingDefense._parameter_constraints,
        "cure": [Cure, None],
        "epochs": [Interval(Integral, 1, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        **DetectingDefense._fitted_constraints,
        "unlearned_": FittedNumber(kind=bool),
    }

    def __init__(
        self,
        *,
        detector: BaseDetector | None = None,
        cure: Cure | None = None,
        epochs: int = 60,
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
        self.cure = cure
        self.epochs = epochs

    @classmethod
    def from_paper(cls, recipe: Literal["paper", "released"] = "paper", **changes: Any) -> Self:
        """Return the classifier with the settings of the paper or of its released code.

        Both rank the rows by the loss of the last epoch of stage one and isolate one per
        cent. Learning rate 0.1, weight decay 1e-4; the momentum is Nesterov's, unlike
        theirs. For tables, whose rows cannot be augmented, give ``augment=None``.

        Parameters
        ----------
        recipe : {"paper", "released"}, default="paper"
            ``"paper"``: twenty epochs of local gradient ascent on each sample at a level
            of 0.5, then eighty of global gradient ascent; batches of 64. L_GGA has
            no lower bound and diverges at this rate, so an isolated row pushes until its
            loss is 10 nats. ``"released"``: ten epochs of local gradient ascent on the
            batch mean, sixty of fine-tuning, four of ascent on the isolated rows alone
            at a rate of 5e-4; batches of 128.
        **changes : dict
            Parameters to set otherwise, those of detector and cure as ``detector__name`` and
            ``cure__name``.

        Returns
        -------
        ABLClassifier

        Raises
        ------
        ValueError
            If there is no such recipe.
        """
        match recipe:
            case "paper":
                classifier = cls(
                    detector=LossRank(
                        ratio=0.01,
                        epochs=20,
                        gamma=0.5,
                        reduction="sample",
                        rank_by="last_epoch",
                        batch_size=64,
                        **_PAPERS,
                    ),
                    cure=Joint(bound=10.0),
                    epochs=80,
                    batch_size=64,
                    lr_schedule=(40, 60),
                    augment=_AUGMENT,
                    **_PAPERS,
                )
            case "released":
                classifier = cls(
                    detector=LossRank(
                        ratio=0.01,
                        epochs=10,
                        gamma=0.5,
                        reduction="batch",
                        rank_by="last_epoch",
                        batch_size=128,
                        **_PAPERS,
                    ),
                    cure=Ascent(epochs=4, learning_rate=5e-4, bound=None),
                    epochs=60,
                    batch_size=128,
                    lr_schedule=(40,),
                    augment=_AUGMENT,
                    **_PAPERS,
                )
            case _:
                raise ValueError(f"recipe={recipe!r}; wanted 'paper' or 'released'.")
        return classifier.set_params(**changes)

    def _n_phases(self) -> int:
        cure = Mixed() if self.cure is None else self.cure
        return self._n_detector_phases() + cure.n_phases

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        detection = self._detection(run)
        if self.detector is not None and self.detector.backbone not in ("auto", self.backbone):
            # What is kept is built again from the classifier's own backbone.
            detection = replace(detection, network=None)
        cure = self.cure
        if cure is None:
            cure = NegativeLearning() if detection.is_complete else Mixed()
        cured = cure._train(run, detection, self.epochs)
        self.unlearned_ = cured.unlearned
        return cured.network, cured.isolation

    def _detector_of_tables(self) -> BaseDetector:
        return LossRank()

    def _check_before_training(self) -> None:
        super()._check_before_training()
        if self.cure is not None:
            self.cure._validate_params()
