"""What the classifiers share that detect before they train the network that is kept."""

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
from antibackdoor.training import Run
from antibackdoor.utils import (
    Fitted,
    FittedNumber,
    ImageLayout,
    all_or_nothing,
    signs_of_classes,
)


class DetectingDefense(BaseDefense):
    """Base of the defences that ask a detector, or are handed a list that a person reviewed.

    A defence writes `_train` out of `_detection`, and `_detector_of_tables`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseDefense._parameter_constraints,
        "detector": [BaseDetector, None],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        **BaseDefense._fitted_constraints,
        "isolate_pvalue_": FittedNumber(kind=float, low=0, high=1, nan=True),
        # Of whichever detector it was; none of them where nothing was tested.
        "isolate_signs_": signs_of_classes(
            "diversity", "transplant", "relabelling", "size", "silhouette"
        ),
    }

    detector: BaseDetector | None

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: Any, suspects: Any = None) -> Self:
        """Detect the poison, and train a clean network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W), \
                (n_samples, H, W, C) or (n_samples, C, H, W)
            uint8 is taken for pixels and scaled to [0, 1]; floats are used as given.
            An array mapped from a file, and a `LazyRows`, are read in batches.
        y : array-like of shape (n_samples,)
            Class labels of any type, of two classes or more.
        suspects : array-like of shape (n_samples,), bool, default=None
            Rows taken for poison, such as a list that a person has reviewed: nothing is detected
            then. Never all rows of a class. Through a pipeline or a search the mask travels by
            metadata routing: ``set_fit_request(suspects=True)``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data cannot be used. Nothing has been trained then, and the
            estimator is as it was.
        FloatingPointError
            If the training diverges. The estimator is as it was.
        RuntimeError
            If another process of the fit has failed or ended. The estimator is as it was.
        """
        return self._fit(X, y, suspects=suspects)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those of the detector as ``detector__name``.

        Where `detector` is None, they are those of a `PoisonSearch`, which takes its place.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : object
        """
        nested = any(name.startswith("detector__") for name in params)
        if nested and params.get("detector", self.detector) is None:
            params = {**params, "detector": PoisonSearch()}
        return super().set_params(**params)

    @abstractmethod
    def _detector_of_tables(self) -> BaseDetector:
        """Return the best known detector for tables, where the search finds nothing."""

    def _resolve_detector(self, layout: ImageLayout | None) -> BaseDetector:
        if self.detector is not None:
            return self.detector
        return self._detector_of_tables() if layout is None else PoisonSearch()

    def _n_detector_phases(self) -> int:
        return (PoisonSearch() if self.detector is None else self.detector)._n_phases()

    def _detection(self, run: Run) -> Detection:
        """Ask the detector; but take the list of a person in its place where there is one."""
        if "suspects" in run.given:
            mask = run.given["suspects"]
            detection = Detection.untested(Isolation(mask.astype(np.float64), 0.5))
        else:
            detection = self._ask(self._resolve_detector(run.samples.layout), run)
        self.isolate_pvalue_ = detection.p_value
        self.isolate_signs_ = detection.signs
        return detection

    def _ask(self, detector: BaseDetector, run: Run) -> Detection:
        """Have a detector work inside this fit."""
        settled = settle(detector, self)
        own_randomness = detector.random_state is not None
        with run_inside(settled, run, own_randomness=own_randomness) as inside:
            return settled._train(inside)

    def _check_before_training(self) -> None:
        super()._check_before_training()
        if self.detector is not None:
            settle(self.detector, self)

    def _check_given(self, given: Mapping[str, Any], y: np.ndarray) -> dict[str, np.ndarray]:
        suspects = given["suspects"]
        return {} if suspects is None else {"suspects": check_suspects(suspects, y)}
