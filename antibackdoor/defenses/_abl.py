"""Anti-Backdoor Learning: isolate the poison, then train a network that is clean of it."""

from __future__ import annotations

from dataclasses import field, replace
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

from sklearn.utils._param_validation import Interval

from antibackdoor.backbones import Network
from antibackdoor.defenses._cures import Cure, NegativeLearning
from antibackdoor.defenses._detecting import DetectingDefense
from antibackdoor.defenses._unlearning import Ascent, Joint, Mixed
from antibackdoor.detection import BaseDetector, Isolation, LossRank
from antibackdoor.training import Run
from antibackdoor.utils import Fitted, FittedNumber, parameters

# Of both stages, in the paper and in its released code.
_PAPERS: dict[str, Any] = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4}


@parameters
class ABLClassifier(DetectingDefense):
    """Anti-Backdoor Learning: trains a clean network on poisoned data.

    Call `fit` with all the data there is, then `predict`::

        clf = ABLClassifier().fit(X, y)
        clf.isolate_  # suspect rows, most suspect first
        clf.predict(X_test)  # by a network that has not learned them

    It needs no clean data and no knowledge of the trigger. There are two stages:

    1. Detect. A network fits backdoored samples faster than clean ones, or in another way. A
       detector uses this to list the suspect rows.
    2. Cure. The final network is trained without these rows. By default it also learns by
       negative learning that the labels of these rows are wrong.

    By default the number of suspect rows is not fixed in advance: `PoisonSearch` tests whether
    there is poison at all. Where it finds none, nothing is flagged and all rows are trained on.

    Parameters
    ----------
    detector : BaseDetector, default=None
        Lists the suspect rows, such as `PoisonSearch` or `LossRank`. Its `backbone`,
        `image_shape`, `layout`, `device`, `compile` and `random_state` follow the classifier's
        unless they are set. None: the best known, ``PoisonSearch()`` for images and
        ``LossRank()`` for tables.
    cure : Cure, default=None
        Trains the final network: `NegativeLearning`, `Retrain`, `Mixed`, `Ascent` or `Joint`.
        None: the best known. That is ``NegativeLearning()`` if the detector aims to list all of
        the poison, and ``Mixed()`` if it isolates a share of it, as `LossRank` does.
    epochs : int, default=25
        Epochs of the final network. Cures that unlearn add epochs of their own.
    backbone, batch_size, optimizer, learning_rate, lr_schedule, momentum, weight_decay, augment
    image_shape, layout, device, compile, cache_dir, random_state

    Attributes
    ----------
    classes_
    module_ : torch.nn.Module
        The clean network. It takes float inputs, images as (n, C, H, W), and
        gives logits.
    isolate_, isolate_mask_, isolate_scores_, isolate_threshold_, isolate_classes_, isolate_pvalue_
    isolate_signs_ : dict of str to numpy.ndarray of shape (n_classes,)
        Evidence of poison in each class of `classes_`, nan for classes that were not tested.
        ``"diversity"``: prediction diversity of the part of the class with the most evidence, under
        networks trained without the class, as a share of that of other classes' rows.
        ``"foreignness"``: how much more the predictions of this part look like rows of other
        classes than like the rest of the class, in nats a row.
        ``"transplant"``: the difference of the two parts of the class is added to rows of other
        classes; how much the share of these rows that is predicted as the class rises, in the half
        of these classes where it rises the least.
        ``"relabelling"``: share of its rows that become one other class when what the foreign rows
        of all classes share is added to them, times how well that tells the classes apart.
        Empty where nothing is tested.
    unlearned_ : bool
        False if nothing was isolated, or if `Mixed` undid its unlearning. The network then is
        the fine-tuned one, and keeps any backdoor. More epochs of the detector often help.
    history_, n_features_in_, input_shape_

    See Also
    --------
    CBDClassifier : Trains a network to differ from a backdoored one.
    UndefendedClassifier : The same training without a defence.

    References
    ----------
    Li, Lyu, Koren, Lyu, Li & Ma, Anti-Backdoor Learning: Training Clean Models on
    Poisoned Data, NeurIPS 2021.

    Kim, Yim, Yun & Kim, NLNL: Negative Learning for Noisy Labels, ICCV 2019.

    Examples
    --------
    The defaults take a minute on all digits. Here a quick detector and cure, on a part of them:

    >>> from antibackdoor import ABLClassifier, LossRank, Retrain, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X[:500], y[:500], random_state=0)
    >>> detector = LossRank(ratio=0.02, epochs=3)
    >>> clf = ABLClassifier(detector=detector, cure=Retrain(), epochs=2, random_state=0)
    >>> clf = clf.fit(X_bad, y_bad)
    >>> clf.isolate_classes_
    array([0])
    """

    cure: Cure | None = None
    epochs: int = 25

    unlearned_: bool = field(init=False)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "cure": [Cure, None],
        "epochs": [Interval(Integral, 1, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "unlearned_": FittedNumber(kind=bool),
    }

    @classmethod
    def from_paper(cls, recipe: Literal["paper", "released"] = "paper", **changes: Any) -> Self:
        """Return the classifier with the settings of the paper or of its released code.

        Both recipes rank the rows by the loss of the last epoch of stage one and isolate one per
        cent of them. The learning rate is 0.1, the weight decay 1e-4. One thing differs from
        both: the momentum is Nesterov's. Tables cannot be augmented; for them give
        ``augment=None``.

        Parameters
        ----------
        recipe : {"paper", "released"}, default="paper"
            ``"paper"``: batches of 64. Twenty epochs of local gradient ascent on each sample at
            a level of 0.5, then eighty of global gradient ascent. L_GGA has no lower bound and
            diverges at this rate, so ascent on an isolated row stops at a loss of 10 nats.
            ``"released"``: batches of 128. Ten epochs of local gradient ascent on the batch mean,
            sixty of fine-tuning, then four of ascent on the isolated rows alone, at a rate of
            5e-4.
        **changes : dict
            Parameters to change. Those of the detector and the cure are ``detector__name`` and
            ``cure__name``.

        Returns
        -------
        ABLClassifier

        Raises
        ------
        ValueError
            If there is no such recipe.
        """
        first: dict[str, Any]
        second: dict[str, Any]
        match recipe:
            case "paper":
                first = {"epochs": 20, "reduction": "sample", "batch_size": 64}
                second = {"epochs": 80, "lr_schedule": (40, 60), "cure": Joint(bound=10.0)}
            case "released":
                cure = Ascent(epochs=4, learning_rate=5e-4, bound=None)
                first = {"epochs": 10, "reduction": "batch", "batch_size": 128}
                second = {"epochs": 60, "lr_schedule": (40,), "cure": cure}
            case _:
                raise ValueError(f"recipe={recipe!r}; wanted 'paper' or 'released'.")
        classifier = cls(
            detector=LossRank(ratio=0.01, gamma=0.5, rank_by="last_epoch", **first, **_PAPERS),
            batch_size=first["batch_size"],
            optimizer="sgd",
            augment=("crop", "flip", "cutout"),
            **second,
            **_PAPERS,
        )
        return classifier.set_params(**changes)

    def _n_phases(self) -> int:
        cure = Mixed() if self.cure is None else self.cure
        return self._n_detector_phases() + cure.n_phases

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        detection = self._detection(run)
        if self.detector is not None and self.detector.backbone not in ("auto", self.backbone):
            # The final network must have the classifier's own backbone, so it starts anew.
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
