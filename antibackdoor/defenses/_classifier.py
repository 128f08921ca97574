"""A trained network as a scikit-learn classifier: prediction and pickling."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from antibackdoor.backbones import Network
from antibackdoor.backbones._state import network_from_arrays, to_arrays
from antibackdoor.training import Samples, alone, compute_logits
from antibackdoor.training._rows import validate_rows
from antibackdoor.utils import CheckedParameters, ImageLayout, as_labels, resolve_layout
from antibackdoor.utils._sklearn import ClassifierMixin
from antibackdoor.utils._torch import usual_torch


class NetworkClassifier(ClassifierMixin, CheckedParameters):
    """Base of the classifiers that predict with a trained network."""

    classes_: np.ndarray
    input_shape_: tuple[int, ...]
    module_: Network
    n_features_in_: int
    #: The parameters with which fit built the network, and whether X was uint8.
    _fitted_with: dict[str, Any]

    def _fitted_layout(self) -> ImageLayout | None:
        fitted = self._fitted_with
        return resolve_layout(self.input_shape_, fitted["image_shape"], fitted["layout"])

    @usual_torch()
    def _logits(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_rows(self, X, reset=False)
        if X.shape[1:] != tuple(self.input_shape_):
            raise ValueError(
                f"X has rows of shape {X.shape[1:]}, but {type(self).__name__} was fitted on "
                f"rows of shape {tuple(self.input_shape_)}."
            )
        if (X.dtype == np.uint8) != self._fitted_with["uint8"]:
            raise ValueError(
                f"X is {'uint8' if X.dtype == np.uint8 else 'not uint8'}, but "
                f"{type(self).__name__} was fitted on X that was"
                f"{'' if self._fitted_with['uint8'] else ' not'}; uint8 is taken for pixels and "
                f"scaled to [0, 1], so give the type that was fitted."
            )
        weight = next(self.module_.parameters())
        # Each row is read once, so that copying all of them to the device gains nothing.
        layout = self._fitted_layout()
        samples = Samples(X, layout, weight.device, weight.dtype, resident=False)
        with alone(), closing(samples):  # predict may be called on one process only
            return compute_logits(self.module_, samples).double().cpu().numpy()

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the shape that was fitted.

        Returns
        -------
        numpy.ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            For two classes, the logit of ``classes_[1]`` minus that of ``classes_[0]``.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the shape that was fitted.

        Returns
        -------
        numpy.ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        logits = self._logits(X)
        likelihoods = np.exp(logits - logits.max(axis=1, keepdims=True))
        return likelihoods / likelihoods.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most likely class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the shape that was fitted.

        Returns
        -------
        numpy.ndarray of shape (n_samples,)
        """
        logits = self._logits(X)
        return self.classes_[logits.argmax(axis=1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of the shape that was fitted.
        y : array-like of shape (n_samples,)
            Their labels, of the kinds that `fit` takes.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        check_is_fitted(self)
        return super().score(X, as_labels("y", y), sample_weight)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        # Arrays instead of the network, so that a pickle names no torch type and no device.
        state = super().__getstate__().copy()
        if "module_" in state:
            state["module_weights"] = to_arrays(state.pop("module_"))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        weights = state.pop("module_weights", None)
        super().__setstate__(state)
        if weights is None:
            return
        layout = self._fitted_layout()
        input_shape = self.input_shape_ if layout is None else layout.chw
        self.module_ = network_from_arrays(
            weights, self._fitted_with["backbone"], input_shape, len(self.classes_)
        )
