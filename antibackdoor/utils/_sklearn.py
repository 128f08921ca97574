"""scikit-learn's bases of estimators, with the types that it does not tell.

To a type checker a class with an untyped base has any attribute and takes any parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    from sklearn.utils import Tags
    from sklearn.utils.metadata_routing import MetadataRequest

    class BaseEstimator:
        """See `sklearn.base.BaseEstimator`."""

        feature_names_in_: np.ndarray
        n_features_in_: int

        @classmethod
        def _get_param_names(cls) -> list[str]: ...
        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Self: ...
        def get_metadata_routing(self) -> MetadataRequest: ...
        def set_fit_request(self, **requests: bool | str | None) -> Self: ...
        def set_score_request(self, **requests: bool | str | None) -> Self: ...
        def __sklearn_tags__(self) -> Tags: ...
        def __getstate__(self) -> dict[str, Any]: ...
        def __setstate__(self, state: dict[str, Any]) -> None: ...

    class ClassifierMixin:
        """See `sklearn.base.ClassifierMixin`."""

        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...

    class TransformerMixin:
        """See `sklearn.base.TransformerMixin`."""

        def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> np.ndarray: ...
        def set_output(self, *, transform: str | None = None) -> Self: ...

    class CallbackSupportMixin:
        """See `sklearn.callback.CallbackSupportMixin`."""

        def set_callbacks(self, *callbacks: Any) -> Self: ...
        def _init_callback_context(self, **told: Any) -> Any: ...
else:
    from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
    from sklearn.callback import CallbackSupportMixin

__all__ = ["BaseEstimator", "CallbackSupportMixin", "ClassifierMixin", "TransformerMixin"]
