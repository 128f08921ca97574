"""Precision, recall and F1 of the flagged rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import f1_score, precision_score, recall_score

from antibackdoor.utils._arguments import check_mask


def isolation_precision(poison_mask: ArrayLike, isolate_mask: ArrayLike) -> float:
    """Share of the flagged rows that are poison: the precision of a defence's flags.

    Parameters
    ----------
    poison_mask : array-like of bool, shape (n,)
        The poisoned rows.
    isolate_mask : array-like of bool, shape (n,)
        The rows that a defence flagged: its `isolate_mask_`.

    Returns
    -------
    float
        Between 0 and 1; higher is better. 0 if nothing is flagged.

    Raises
    ------
    ValueError
        If the masks differ in length or are empty.
    TypeError
        If a mask is not boolean.

    Examples
    --------
    >>> from antibackdoor.metrics import isolation_precision
    >>> isolation_precision([True, True, False, False], [True, False, False, False])
    1.0
    """
    poison, isolated = _check_masks(poison_mask, isolate_mask)
    return float(precision_score(poison, isolated, zero_division=0))


def isolation_recall(poison_mask: ArrayLike, isolate_mask: ArrayLike) -> float:
    """Share of the poisoned rows that are flagged: the recall of a defence's flags.

    Parameters
    ----------
    poison_mask, isolate_mask : array-like of bool, shape (n,)
        As in `isolation_precision`.

    Returns
    -------
    float
        Between 0 and 1; higher is better. 0 if nothing is poisoned.

    Raises
    ------
    ValueError, TypeError
        As `isolation_precision`.

    Examples
    --------
    >>> from antibackdoor.metrics import isolation_recall
    >>> isolation_recall([True, True, False, False], [True, False, False, False])
    0.5
    """
    poison, isolated = _check_masks(poison_mask, isolate_mask)
    return float(recall_score(poison, isolated, zero_division=0))


def isolation_f1(poison_mask: ArrayLike, isolate_mask: ArrayLike) -> float:
    """Harmonic mean of `isolation_precision` and `isolation_recall`.

    Parameters
    ----------
    poison_mask, isolate_mask : array-like of bool, shape (n,)
        As in `isolation_precision`.

    Returns
    -------
    float
        Between 0 and 1; higher is better. 0 if nothing is poisoned and nothing flagged.

    Raises
    ------
    ValueError, TypeError
        As `isolation_precision`.

    Examples
    --------
    >>> from antibackdoor.metrics import isolation_f1
    >>> isolation_f1([True, True, False], [True, False, True])
    0.5
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
