"""Base of the classifiers that detect poison before they train the final network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks

from antibackdoor.defenses._base import BaseDefense
from antibackdoor.defenses._row_masks import check_suspects
from antibackdoor.detection import (
    BaseDetector,
    Detection,
    Isolation,
    PoisonSearch,
    run_inside,
    settle,
)
from antibackdoor.training import Passes, Run, count_epochs_named, count_passes
from antibackdoor.utils import Fitted, parameters
from antibackdoor.utils._atomic import all_or_nothing


@parameters
class DetectingDefense(BaseDefense):
    """Base of the defences that run a detector, or take a list that a person reviewed.

    A defence implements `_train`, with `_detection`, and `_detector_of_tables`.

    Attributes
    ----------
    isolate_classes_ : numpy.ndarray of shape (n_suspect_classes,)
        Labels of the flagged rows: the suspected target classes.
    isolate_pvalue_ : float
        p-value: probability that clean data shows as strong a sign of poison in any class. Small
        means poisoned. nan where nothing was tested: with a detector that flags a fixed share,
        on tables, and with fewer than four classes.
    history_ : list of dict
        One entry an epoch: phase, epoch, objective (value minimised), loss (mean
        cross-entropy, nats), accuracy, learning_rate, seconds. Loss and accuracy are on the
        given labels of the rows of the phase, rows to be unlearned included.
    """

    detector: BaseDetector | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "detector": [BaseDetector, None],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        **BaseDetector._fitted_constraints,
    }

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: Any, suspects: Any = None) -> Self:
        """Detect the poison, and train a clean network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W), \
                (n_samples, H, W, C) or (n_samples, C, H, W)
            Training rows. uint8 values are pixels and are scaled to [0, 1]; floats are used as
            given. A memory-mapped array or a `LazyRows` is read batch by batch.
        y : array-like of shape (n_samples,)
            Class labels of any type, of two classes or more.
        suspects : array-like of shape (n_samples,), bool, default=None
            Rows that count as poison, such as a list that a person has reviewed. With it no
            detector runs. At least one row of every class must be left. In a pipeline or a grid
            search, pass the mask by metadata routing: ``set_fit_request(suspects=True)``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data is not valid. Nothing is trained then, and the estimator
            is unchanged.
        FloatingPointError
            If the training diverges. The estimator is unchanged.
        RuntimeError
            If another process of the fit failed or ended. The estimator is unchanged.
        """
        return self._fit(X, y, suspects=suspects)

    def set_params(self, **params: Any) -> Self:
        """Set parameters; those of the detector are ``detector__name``.

        If `detector` is None, it becomes a `PoisonSearch` with these parameters.
        """
        nested = any(name.startswith("detector__") for name in params)
        if nested and params.get("detector", self.detector) is None:
            params = {**params, "detector": PoisonSearch()}
        return super().set_params(**params)

    @abstractmethod
    def _detector_of_tables(self) -> BaseDetector:
        """Return the best known detector for tables, which `PoisonSearch` does not search."""

    def _resolve_detector(self, *, images: bool) -> BaseDetector:
        if self.detector is not None:
            return self.detector
        return PoisonSearch() if images else self._detector_of_tables()

    def _n_detector_phases(self) -> int:
        return (PoisonSearch() if self.detector is None else self.detector)._n_phases()

    def _passes(self, n_rows: int, *, images: bool = True, reviewed: bool = False) -> list[Passes]:
        of_detector = []
        if not reviewed:
            detector = settle(self._resolve_detector(images=images), self)
            of_detector = detector._passes(n_rows, images=images)
        own = {
            name: value
            for name, value in self.get_params().items()
            if not name.startswith("detector__")
        }
        return [*of_detector, self._own_passes(count_epochs_named(own), n_rows)]

    def _detection(self, run: Run) -> Detection:
        """Run the detector, or use the list of `suspects` if one was given."""
        if "suspects" in run.given:
            mask = run.given["suspects"]
            detection = Detection.untested(Isolation(mask.astype(np.float64), 0.5))
        else:
            detection = self._ask(self._resolve_detector(images=run.has_images), run)
        self.isolate_pvalue_ = detection.p_value
        self.isolate_signs_ = detection.signs
        return detection

    def _ask(self, detector: BaseDetector, run: Run) -> Detection:
        """Run a detector inside this fit."""
        settled = settle(detector, self)
        own_randomness = detector.random_state is not None
        passes = settled._passes(len(run.samples), images=run.has_images)
        with (
            run.work.part(count_passes(passes)),
            run_inside(settled, run, own_randomness=own_randomness) as inside,
        ):
            return settled._train(inside)

    def _check_before_training(self) -> None:
        super()._check_before_training()
        if self.detector is not None:
            settle(self.detector, self)

    def _check_given(self, given: Mapping[str, Any], y: np.ndarray) -> dict[str, np.ndarray]:
        suspects = given["suspects"]
        return {} if suspects is None else {"suspects": check_suspects(suspects, y)}
