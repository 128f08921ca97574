"""Triggers that are computed in floats, on rows of any dtype."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Values per chunk in float computations: small enough for the processor's cache.
_CHUNK_VALUES = 1 << 17


def change_in_float(
    rows: np.ndarray,
    change: Callable[[np.ndarray], np.ndarray],
    value_range: tuple[float, float],
) -> None:
    """Replace `rows` by ``change(rows)``, computed in floats and clipped.

    Parameters
    ----------
    rows : ndarray of shape (n, ...)
        Changed in place, a few rows at a time.
    change : callable
        Takes rows as a float array, which it may overwrite, and returns as many.
    value_range : tuple of two float
        The result is clipped to this range, unless the row itself goes beyond it. For integer
        dtypes it is rounded too.
    """
    work_dtype = np.result_type(rows.dtype, np.float32)
    step = max(1, _CHUNK_VALUES // max(1, rows[:1].size))
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        changed = _saturate(change(chunk.astype(work_dtype)), chunk, value_range)
        if rows.dtype.kind != "f":
            np.rint(changed, out=changed)
        np.copyto(chunk, changed, casting="unsafe")


def _saturate(
    changed: np.ndarray, before: np.ndarray, value_range: tuple[float, float]
) -> np.ndarray:
    """Clip changed rows to the range, in place; the range is widened to what each row had before.

    So a row that lies somewhat outside the range is not changed outside the trigger.

    Parameters
    ----------
    changed, before : numpy.ndarray of shape (n, ...)

    Returns
    -------
    numpy.ndarray
        `changed`.
    """
    low, high = value_range
    axes = tuple(range(1, before.ndim))
    if before.min() >= low and before.max() <= high:
        return np.clip(changed, low, high, out=changed)
    darkest = np.minimum(before.min(axis=axes, keepdims=True), low)
    brightest = np.maximum(before.max(axis=axes, keepdims=True), high)
    return np.clip(changed, darkest, brightest, out=changed)
