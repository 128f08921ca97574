"""How well a defence named the poisoned rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import f1_score, precision_score, recall_score

from antibackdoor.metrics._checks import check_mask


def isolation_precision(poison_mask: ArrayLike, isolate_mask: ArrayLike) -> float:
    """Share of the isolated rows that are poison.

    Parameters
    ----------
    poison_mask : array-like of bool, shape (n,)
        The poisoned rows.
    isolate_mask : array-like of bool, shape (n,)
        The rows that a defence flagged: its `isolate_mask_`.

    Returns
    -------
    float
        Between 0 and 1; higher is better. 0 where nothing was isolated.

    Raises
    ------
    ValueError
        If the masks differ in length or are empty.
    TypeError
        If a mask is not boolean.
    """
    poison, isolated = _check_masks(poison_mask, isolate_mask)
    return float(precision_score(poison, isolated, zero_division=0))


def isolation_recall(poison_mask: ArrayLike, isolate_mask: ArrayLike) -> float:
    """Share of the poisoned rows that were isolated.

    Parameters
    ----------
    poison_mask : array-like of bool, shape (n,)
        The poisoned rows.
    isolate_mask : array-like of bool, shape (n,)
        The rows that a defence flagged: its `isolate_mask_`.

    Returns
    -------
    float
        Between 0 and 1; higher is better. 0 where nothing was poisoned.

    Raises
    ------
    ValueError
        If the masks differ in length or are empty.
    TypeError
        If a mask is not boolean.
    """
    poison, isolated = _check_masks(poison_mask, isolate_mask)
    return float(recall_score(poison, isolated, zero_division=0))


def isolation_f1(poison_mask: ArrayLike, isolate_mask: ArrayLike) -> float:
    """Harmonic mean of `isolation_precision` and `isolation_recall`.

    Parameters
    ----------
    poison_mask : array-like of bool, shape (n,)
        The poisoned rows.
    isolate_mask : array-like of bool, shape (n,)
        The rows that a defence flagged: its `isolate_mask_`.

    Returns
    -------
    float
        Between 0 and 1; higher is better. 0 where nothing was poisoned and
        nothing isolated.

    Raises
    ------
    ValueError
        If the masks differ in length or are empty.
    TypeError
        If a mask is not boolean.
    """
    poison, isolated = _check_masks(poison_mask, isolate_mask)
    return float(f1_score(poison, isolated, zero_division=0))


def _check_masks(poison_mask: ArrayLike, isolate_mask: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    n_rows = np.size(poison_mask)
    if n_rows == 0:
        raise ValueError("poison_mask is empty.")
    return (
        check_mask("poison_mask", poison_mask, n_rows),
        check_mask("isolate_mask", isolate_mask, n_rows),
    )
