"""Base of the detectors: estimators that list the suspect rows and train no classifier."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import _safe_indexing

from antibackdoor.backbones import Network
from antibackdoor.detection._select import Isolation
from antibackdoor.training import Run, TrainingEstimator, current_team
from antibackdoor.utils import Fitted, FittedNumber, parameters, signs_of_classes
from antibackdoor.utils._sklearn import BaseEstimator


@dataclass(frozen=True)
class Detection:
    """Result of a detector, as a cure gets it: flags, trusted rows, p-value, network.

    `untested` makes one from flags alone::

        detection = Detection.untested(flag_above(scores, 0.5))

    Attributes
    ----------
    isolation : Isolation
        Scores of all rows, and the flagged rows.
    trusted : numpy.ndarray of shape (n_samples,), bool
        Rows to train on. Rows that are neither trusted nor flagged are doubtful.
    complementary : numpy.ndarray of shape (n_samples,), bool
        Flagged rows whose label serves as a complementary label: the row is not of this class.
        Poison that keeps its true label is not among them.
    p_value : float
        Probability that clean data shows as strong a sign; nan if nothing was tested.
    signs : dict of str to numpy.ndarray of shape (n_classes,), float64
        Evidence of poison in each class; empty if nothing was tested.
    is_complete : bool
        Whether the flagged rows are meant to be all of the poison, not a share of it.
    network : Network or None
        A network trained on all rows, with any backdoor they hold; None if there is none. That of
        a `PoisonSearch` was trained on all rows, then on half of them.
    losses : numpy.ndarray of shape (n_epochs, n_samples), float64
        Losses of all rows in training, in nats; of shape (0, 0) if there is no network. With a
        `PoisonSearch`, those of the network that was trained further on the row.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.detection import Detection, flag_above
    >>> detection = Detection.untested(flag_above(np.array([0.1, 0.9, 0.2]), 0.5))
    >>> detection.trusted
    array([ True, False,  True])
    >>> detection.p_value
    nan
    """

    isolation: Isolation
    trusted: np.ndarray
    complementary: np.ndarray
    p_value: float = np.nan
    signs: dict[str, np.ndarray] = field(default_factory=dict)
    is_complete: bool = True
    network: Network | None = None
    losses: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    @classmethod
    def untested(cls, isolation: Isolation, **changes: Any) -> Self:
        """Return a detection with these flags and no test: all other rows are trusted."""
        mask = isolation.mask
        settings = {"trusted": ~mask, "complementary": np.zeros_like(mask), **changes}
        return cls(isolation=isolation, **settings)


class IsolationMixin(BaseEstimator):
    """The `isolate_` attributes, with the same meaning for every estimator that has them.

    Attributes
    ----------
    isolate_ : numpy.ndarray of shape (n_isolated,), int64
        Flagged training rows, most suspect first.
    isolate_mask_ : numpy.ndarray of shape (n_samples,), bool
        The same, as a mask.
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Suspicion score of every training row; higher is more suspect.
    isolate_threshold_ : float
        Rows with a score above it are flagged.
    isolate_classes_ : numpy.ndarray of shape (n_suspect_classes,)
        Labels of the flagged rows.
    isolate_pvalue_ : float
        p-value, for the estimators that test; nan where nothing was tested.
    isolate_signs_ : dict of str to numpy.ndarray of shape (n_classes,)
        Evidence of poison in each class, for the estimators that test.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, PoisonSearch
    >>> from antibackdoor.detection import IsolationMixin
    >>> isinstance(ABLClassifier(), IsolationMixin), isinstance(PoisonSearch(), IsolationMixin)
    (True, True)
    """

    isolate_: np.ndarray
    isolate_classes_: np.ndarray
    isolate_mask_: np.ndarray
    isolate_pvalue_: float
    isolate_scores_: np.ndarray
    isolate_signs_: dict[str, np.ndarray]
    isolate_threshold_: float

    def _keep_isolation(self, run: Run, isolation: Isolation) -> None:
        self.isolate_scores_ = isolation.scores
        self.isolate_threshold_ = isolation.threshold
        self.isolate_mask_ = isolation.mask
        self.isolate_ = isolation.indices
        flagged_labels = run.labels.cpu().numpy()[isolation.mask]
        self.isolate_classes_ = run.classes[np.unique(flagged_labels)]


@parameters
class BaseDetector(IsolationMixin, TrainingEstimator):
    """Base of the detectors: derive from it to write a detector of your own.

    List its parameters, and implement `_n_phases` and `_detect`. The latter trains networks, if it
    needs any, with ``run.phase(...)``, and returns a `Detection`::

        def _detect(self, run):
            scores = run.X.reshape(len(run.X), -1).mean(1)
            return Detection.untested(flag_most_suspect(scores, 0.01))

    Examples
    --------
    `LossRank` derives from this class. Here it lends its parameters:

    >>> from antibackdoor import LossRank
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.detection import Detection, flag_most_suspect
    >>> class Brightest(LossRank):
    ...     def _n_phases(self):
    ...         return 0
    ...
    ...     def _detect(self, run):
    ...         scores = run.X.reshape(len(run.X), -1).mean(1)
    ...         return Detection.untested(flag_most_suspect(scores, self.ratio))
    >>> X, y = load_digits_images()
    >>> len(Brightest(ratio=0.1).fit(X[:100], y[:100]).isolate_)
    10
    """

    #: Attributes that `fit` sets beside the flags: checked when a file is loaded.
    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "isolate_pvalue_": FittedNumber(kind=float, low=0, high=1, nan=True),
        # The signs of all detectors; empty where nothing was tested.
        "isolate_signs_": signs_of_classes(
            *("diversity", "foreignness", "transplant", "relabelling", "size", "silhouette")
        ),
    }

    classes_: np.ndarray = field(init=False)
    history_: list[dict[str, Any]] = field(init=False)
    input_shape_: tuple[int, ...] = field(init=False)

    @abstractmethod
    def _detect(self, run: Run) -> Detection:
        """Return the scores and flags of all rows."""

    def _train(self, run: Run) -> Detection:
        detection = self._detect(run)
        isolation = current_team().from_first(lambda: detection.isolation)
        return replace(detection, isolation=isolation)

    def _keep(self, run: Run, kept: Detection) -> None:
        self.classes_ = run.classes
        self.input_shape_ = run.X.shape[1:]
        self.history_ = run.history
        self._keep_isolation(run, kept.isolation)
        self.isolate_pvalue_ = kept.p_value
        self.isolate_signs_ = kept.signs

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Fit, and return the rows that are not flagged, as imbalanced-learn's samplers do.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,)
            As in `fit`.

        Returns
        -------
        X_kept : array-like of shape (n_kept, ...)
            Of the same type as `X`.
        y_kept : array-like of shape (n_kept,)

        Raises
        ------
        ValueError, TypeError, FloatingPointError
            As in `fit`.
        """
        self.fit(X, y)
        kept = np.flatnonzero(~self.isolate_mask_)
        return _safe_indexing(X, kept), _safe_indexing(y, kept)
