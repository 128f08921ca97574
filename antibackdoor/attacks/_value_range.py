"""What the range of an attack's values says of rows: whether they are in its units, and changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Of the width of a range: what new rows may lie outside of one that was only seen in `fit`.
#: Rows of [-1, 1] lie farther out of [0, 1], as do all that are scaled to another range.
_STRAY = 0.5

#: Of the width of a range: half a grey level of 256, which is what rounding may do.
_HALF_A_LEVEL = 1 / 510

#: Rows compared at a time.
_CHUNK = 256


def check_value_range(value_range: Sequence[float]) -> tuple[float, float]:
    """Return a named range as two finite floats, the smaller first."""
    message = f"value_range={value_range!r}; wanted two finite numbers, the smaller first."
    try:
        low, high = (float(value) for value in value_range)
    except (OverflowError, TypeError, ValueError):
        raise ValueError(message) from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(message)
    return low, high


def check_holds_range(dtype: np.dtype, value_range: tuple[float, float]) -> None:
    """Refuse rows of a dtype that has not all whole numbers of the range."""
    if dtype.kind not in "iu":
        return
    limits = np.iinfo(dtype)
    if value_range[0] < limits.min or value_range[1] > limits.max:
        raise ValueError(f"X has dtype {dtype}, which cannot hold the value_range {value_range}.")


def check_inside(
    rows: np.ndarray,
    value_range: tuple[float, float],
    is_seen: bool,
    attack_name: str,
    argument: str = "X",
) -> None:
    """Refuse rows in other units than the attack's, which would be cut to black and white.

    Parameters
    ----------
    rows : numpy.ndarray
        Finite numbers.
    value_range : tuple of two float
    is_seen : bool
        Whether the range is that of the rows in `fit`, which new rows may leave somewhat.
    attack_name, argument : str
        For the message.

    Raises
    ------
    ValueError
        If a value is outside by more than half a grey level or, of a range that was seen,
        by more than half its width.
    """
    if rows.size == 0:
        return
    low, high = value_range
    share = _STRAY if is_seen else _HALF_A_LEVEL
    room = high * share - low * share
    if rows.dtype.kind == "f":  # a type of few digits rounds the limits themselves
        room += 4 * float(np.finfo(rows.dtype).eps) * max(abs(low), abs(high))
    else:  # limits that are no whole numbers are rounded
        room = max(room, 0.5)
    found = float(rows.min()), float(rows.max())
    if found[0] < low - room or found[1] > high + room:
        whose = "that its fit saw" if is_seen else "there are"
        raise ValueError(
            f"{argument} holds values from {found[0]:g} to {found[1]:g}; {attack_name} wanted "
            f"values from {low:g} to {high:g}, the darkest and the brightest {whose}. Give rows "
            f"in those units, or name the value_range that holds all of them."
        )


def saturate(
    changed: np.ndarray, before: np.ndarray, value_range: tuple[float, float]
) -> np.ndarray:
    """Cut changed rows to the range, in place, widened by what each row had of its own.

    So a row that lies somewhat outside is not changed where no trigger is.

    Parameters
    ----------
    changed, before : numpy.ndarray of shape (n, ...)
    value_range : tuple of two float

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


def find_changed(
    changed: np.ndarray, before: np.ndarray, value_range: tuple[float, float]
) -> np.ndarray:
    """Tell which rows a trigger has changed, by half a grey level of the range or more.

    What is less would be nothing once rounded to pixels, and floats are judged alike.

    Parameters
    ----------
    changed, before : numpy.ndarray of shape (n, ...)
    value_range : tuple of two float

    Returns
    -------
    numpy.ndarray of bool, shape (n,)
    """
    low, high = value_range
    least = high * _HALF_A_LEVEL - low * _HALF_A_LEVEL
    moved = np.zeros(len(before))
    for start in range(0, len(before), _CHUNK):  # floats of all rows may be eight times their bytes
        rows = slice(start, start + _CHUNK)
        with np.errstate(over="ignore"):
            difference = np.abs(changed[rows].astype(np.float64) - before[rows])
        moved[rows] = difference.reshape(len(difference), -1).max(axis=1)
    return (moved > 0) & (moved >= least)
