"""What every detector is: an estimator that lists the suspect rows and trains no classifier."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing

from antibackdoor.backbones import Network
from antibackdoor.detection._select import Isolation
from antibackdoor.training import Run, TrainingEstimator, current_team


@dataclass(frozen=True)
class Detection:
    """What a detector has found, for a cure to work with.

    Attributes
    ----------
    isolation : Isolation
        Suspicion of every row, and which are flagged.
    trusted : numpy.ndarray of shape (n_samples,), bool
        Rows that are not even doubtful: to be trained on.
    complementary : numpy.ndarray of shape (n_samples,), bool
        Flagged rows whose label is taken for a complementary one: it says what they are not.
        Poison that keeps its true label is not among them.
    p_value : float
        Probability that clean data shows as strong a sign; nan where nothing was tested.
    signs : dict of str to numpy.ndarray of shape (n_classes,), float64
        Signs of poison in each class; empty where nothing was tested.
    is_complete : bool
        Whether the flagged rows are meant to be all of the poison, not a share of it.
    network : Network or None
        One that was trained on all rows, with whatever backdoor they hold; None where there is
        none. A search's went on with half of them.
    losses : numpy.ndarray of shape (n_epochs, n_samples), float64
        Of all rows in training, in nats; of no epoch where there is no network. Those of a search
        are of the network that went on with the row.
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
        """Return that of a rule which flags rows and tests nothing."""
        mask = isolation.mask
        settings = {"trusted": ~mask, "complementary": np.zeros_like(mask), **changes}
        return cls(isolation=isolation, **settings)


class IsolationMixin(BaseEstimator):
    """The `isolate_` family, which means the same for every estimator that has it."""

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


class BaseDetector(IsolationMixin, TrainingEstimator):
    """Base of the detectors.

    A detector writes `_detect`, which trains with ``run.phase(...)`` and returns a `Detection`.
    """

    classes_: np.ndarray
    history_: list[dict[str, Any]]
    input_shape_: tuple[int, ...]

    @abstractmethod
    def _detect(self, run: Run) -> Detection:
        """Return whom it suspects."""

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
        """Detect, and return the rows that are not flagged, as imbalanced-learn's samplers do.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,)
            As in `fit`.

        Returns
        -------
        X_kept : array-like of shape (n_kept, ...)
            Of the kind of `X`.
        y_kept : array-like of shape (n_kept,)

        Raises
        ------
        ValueError, TypeError, FloatingPointError
            As in `fit`.
        """
        self.fit(X, y)
        kept = np.flatnonzero(~self.isolate_mask_)
        return _safe_indexing(X, kept), _safe_indexing(y, kept)
