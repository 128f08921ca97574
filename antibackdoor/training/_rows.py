"""Validation of X in fit and prediction, without reading more of it than memory holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import validate_data

from antibackdoor.training._mapped import find_place, is_mapped
from antibackdoor.utils import LazyRows, as_rows, naming

#: Dtypes of X that are kept; any other is converted to the first.
INPUT_DTYPES = (np.float64, np.float32, np.uint8)


def validate_rows(estimator: BaseEstimator, X: Any, *, reset: bool) -> np.ndarray | LazyRows:
    """Check X as scikit-learn does, and return it as an array unless it is lazy.

    Values of a memory-mapped or lazy X are checked to be finite when they are read; in `fit` that
    is before training.

    Parameters
    ----------
    estimator : BaseEstimator
    X : array-like of shape (n_samples, ...)
    reset : bool
        Whether to set the number of features, or to compare it with the fitted one.

    Returns
    -------
    numpy.ndarray or LazyRows
        Of a type in `INPUT_DTYPES`.

    Raises
    ------
    ValueError, TypeError
        If it is not valid, or is mapped from a truncated file.
    """
    with naming("X"):
        if isinstance(X, LazyRows):
            if len(X) == 0:
                raise ValueError(f"X={X!r} has no rows; wanted one at least.")
            return validate_data(estimator, X, reset=reset, skip_check_array=True)
        X = as_rows(X)
        mapped = is_mapped(X)
        rows: np.ndarray = validate_data(
            estimator,
            X,
            dtype=INPUT_DTYPES,
            allow_nd=True,
            reset=reset,
            ensure_all_finite=not mapped,
        )
        if mapped and find_place(rows) is None:
            assert_all_finite(rows, input_name="X")
        return rows


def stays_in_place(X: np.ndarray | LazyRows) -> bool:
    """Return whether a fit reads rows batch by batch, instead of copying all to the device."""
    return isinstance(X, LazyRows) or is_mapped(X)
