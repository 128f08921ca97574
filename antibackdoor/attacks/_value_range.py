"""Checks with the value range of an attack: the units of rows, and whether rows are changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from antibackdoor.utils._numbers import is_number

#: New rows may exceed a range that was only seen in `fit` by this share of its width. Rows in other
#: units exceed it farther: rows in [-1, 1] do for [0, 1].
_STRAY = 0.5

#: Half a grey level of 256, as a share of the width of a range: the largest effect of rounding.
_HALF_A_LEVEL = 1 / 510

#: Rows compared at a time.
_CHUNK = 256


def check_value_range(value_range: Sequence[float]) -> tuple[float, float]:
    """Return a given range as two finite floats, the smaller first."""
    message = f"value_range={value_range!r}; wanted two finite numbers, the smaller first."
    try:
        low, high = (float(value) for value in value_range if is_number(value))
    except (OverflowError, TypeError, ValueError):
        raise ValueError(message) from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(message)
    return low, high


def check_holds_range(dtype: np.dtype, value_range: tuple[float, float]) -> None:
    """Refuse a dtype that cannot hold all whole numbers of the range."""
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
    """Refuse rows in other units than the attack's: they would be clipped to black and white.

    Parameters
    ----------
    rows : numpy.ndarray
        Finite numbers.
    is_seen : bool
        Whether the range is that of the rows in `fit`, which new rows may exceed somewhat.
    attack_name, argument : str
        For the message.

    Raises
    ------
    ValueError
        If a value is outside by more than half a grey level, or by more than half the width of a
        range that was only seen in `fit`.
    """
    if rows.size == 0:
        return
    low, high = value_range
    share = _STRAY if is_seen else _HALF_A_LEVEL
    room = high * share - low * share
    if rows.dtype.kind == "f":  # a dtype of few digits rounds the limits too
        room += 4 * float(np.finfo(rows.dtype).eps) * max(abs(low), abs(high))
    else:  # limits that are not whole numbers are rounded
        room = max(room, 0.5)
    found = float(rows.min()), float(rows.max())
    if found[0] < low - room or found[1] > high + room:
        whose = "that its fit saw" if is_seen else "there are"
        raise ValueError(
            f"{argument} holds values from {found[0]:g} to {found[1]:g}; {attack_name} wanted "
            f"values from {low:g} to {high:g}, the darkest and the brightest {whose}. Give rows "
            f"in those units, or name the value_range that holds all of them."
        )


def find_changed(
    changed: np.ndarray, before: np.ndarray, value_range: tuple[float, float]
) -> np.ndarray:
    """Return which rows a trigger has changed, by half a grey level of the range or more.

    Smaller changes vanish when rounded to pixels, and floats are treated the same way.

    Parameters
    ----------
    changed, before : numpy.ndarray of shape (n, ...)

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
