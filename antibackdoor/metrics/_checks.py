"""What the metrics ask of labels and masks."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import column_or_1d


def check_label_pair(
    y_true: ArrayLike, y_pred: ArrayLike, name: str = "y_true"
) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted labels as arrays of one length and one kind.

    `name` is what the caller calls `y_true`.
    """
    true, predicted = column_or_1d(y_true), column_or_1d(y_pred)
    if len(true) != len(predicted):
        raise ValueError(f"{name} has {len(true)} labels, but y_pred has {len(predicted)}.")
    if len(true) == 0:
        raise ValueError(f"{name} and y_pred are empty.")
    _check_kind("y_pred", predicted, true, name)
    return true, predicted


def check_target(target_label: Any, y_true: np.ndarray) -> np.ndarray:
    """Return the attacker's label of every row."""
    target = np.asarray(target_label)
    if target.ndim == 0:
        target = np.broadcast_to(target, y_true.shape)
    if target.shape != y_true.shape:
        raise ValueError(
            f"target_label has shape {target.shape}; wanted one label, or one for each of the "
            f"{len(y_true)} rows."
        )
    _check_kind("target_label", target, y_true)
    return target


def check_mask(name: str, mask: ArrayLike, n_rows: int) -> np.ndarray:
    """Return a boolean mask over `n_rows` rows."""
    checked = np.asarray(mask)
    if checked.dtype != bool:
        raise TypeError(
            f"{name} has dtype {checked.dtype}; wanted a boolean mask with one value a row, "
            f"not indices."
        )
    if checked.shape != (n_rows,):
        raise ValueError(f"{name} has shape {checked.shape}; wanted ({n_rows},).")
    return checked


def check_at_least_zero(name: str, value: Any) -> float:
    """Return a number that is at least 0 as a float."""
    message = f"{name}={value!r}; wanted a number that is at least 0."
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and value >= 0):
        raise ValueError(message)
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(message) from error


def _check_kind(
    name: str, values: np.ndarray, y_true: np.ndarray, true_name: str = "y_true"
) -> None:
    """Text never equals a number, so comparing them would give a quiet 0."""
    if "O" in (values.dtype.kind, y_true.dtype.kind):
        return
    if (values.dtype.kind in "US") != (y_true.dtype.kind in "US"):
        raise ValueError(
            f"{name} holds {values.dtype} and {true_name} {y_true.dtype}; text and numbers are "
            f"never equal."
        )
