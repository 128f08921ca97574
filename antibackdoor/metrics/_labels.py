"""Metrics that need no more than labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from antibackdoor.metrics._checks import check_label_pair, check_mask, check_target


def clean_accuracy(
    y_true: ArrayLike, y_pred: ArrayLike, *, poison_mask: ArrayLike | None = None
) -> float:
    """Share of clean rows that get their true class (CA); all classes count.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.
    y_pred : array-like of shape (n,)
        Labels predicted for the rows as they are, without trigger.
    poison_mask : array-like of bool, shape (n,), default=None
        Rows to leave out because they are poisoned: their label is the
        attacker's, and to follow it is no merit.

    Returns
    -------
    float
        Between 0 and 1; higher is better.

    Raises
    ------
    ValueError
        If the lengths differ, a label is missing (None, NaN), text meets numbers or bytes,
        or no row is left.
    TypeError
        If `poison_mask` is not boolean, or labels are no text, bytes, numbers or booleans.
    """
    true, predicted = check_label_pair(y_true, y_pred)
    if poison_mask is None:
        return float(np.mean(true == predicted))
    clean = ~check_mask("poison_mask", poison_mask, len(true))
    if not clean.any():
        raise ValueError("poison_mask marks every row: no clean row is left to count.")
    return float(np.mean(true[clean] == predicted[clean]))


def attack_success_rate(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    target_label: Any,
    classes: ArrayLike | None = None,
) -> float:
    """Share of triggered rows that get the attacker's label (ASR).

    Rows whose true class is the attacker's label already are left out: a model
    that is right about them proves nothing.

    Labels must be of one kind in all arguments: text, bytes, or numbers, among which True
    is 1 and False 0. A label that can equal none is refused, since it would give an ASR of 0
    for any model.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.
    y_pred : array-like of shape (n,)
        Labels predicted for the same rows with the trigger on.
    target_label : label or array-like of shape (n,)
        The attacker's label: one for all rows or, as for an all-to-all attack,
        one for each (`BaseAttack.transform_target` gives them). Each must be a class: among
        `y_true`, `y_pred` or `classes`.
    classes : array-like, default=None
        Classes that there are besides those in `y_true` and `y_pred`, such as the
        classifier's `classes_`. Needed where no row is of the target class and none is
        taken for it.

    Returns
    -------
    float
        Between 0 and 1; lower is better.

    Raises
    ------
    ValueError
        If the lengths differ, a label is missing (None, NaN), text meets numbers or bytes,
        a target is no class, or no row is left.
    TypeError
        If labels are no text, bytes, numbers or booleans.
    """
    true, predicted = check_label_pair(y_true, y_pred)
    target = check_target(target_label, true, predicted, classes)
    other = _not_target(true, target)
    return float(np.mean(predicted[other] == target[other]))


def robust_accuracy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    target_label: Any | None = None,
    classes: ArrayLike | None = None,
) -> float:
    """Share of triggered rows that get their true class all the same (R-Acc).

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.
    y_pred : array-like of shape (n,)
        Labels predicted for the same rows with the trigger on.
    target_label : label or array-like of shape (n,), default=None
        The attacker's label, for all rows or for each; rows that have it as
        their true class are left out, as in `attack_success_rate`. None: every
        row counts.
    classes : array-like, default=None
        As in `attack_success_rate`.

    Returns
    -------
    float
        Between 0 and 1; higher is better.

    Raises
    ------
    ValueError
        If the lengths differ, a label is missing (None, NaN), text meets numbers or bytes,
        a target is no class, or no row is left.
    TypeError
        If labels are no text, bytes, numbers or booleans.
    """
    true, predicted = check_label_pair(y_true, y_pred)
    if target_label is None:
        return float(np.mean(true == predicted))
    other = _not_target(true, check_target(target_label, true, predicted, classes))
    return float(np.mean(true[other] == predicted[other]))


def target_recall(y_true: ArrayLike, y_pred: ArrayLike, *, target_label: Any) -> float:
    """Share of the target class's clean rows that get their true class.

    A defence can buy a low ASR by never answering with the target; this shows it.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.
    y_pred : array-like of shape (n,)
        Labels predicted for the rows as they are, without trigger.
    target_label : label
        The attacker's label.

    Returns
    -------
    float
        Between 0 and 1; higher is better.

    Raises
    ------
    ValueError
        If the lengths differ, a label is missing (None, NaN), text meets numbers or bytes,
        or no row is of that class.
    TypeError
        If labels are no text, bytes, numbers or booleans.
    """
    true, predicted = check_label_pair(y_true, y_pred)
    if np.ndim(target_label) != 0:
        raise ValueError(f"target_label has shape {np.shape(target_label)}; wanted one label.")
    # Any class will do here: one without a row is refused below.
    own = true == check_target(target_label, true, predicted, [target_label])
    if not own.any():
        raise ValueError(f"y_true has no row of target_label={target_label!r}.")
    return float(np.mean(predicted[own] == true[own]))


def _not_target(y_true: np.ndarray, target: np.ndarray) -> np.ndarray:
    other = y_true != target
    if not other.any():
        raise ValueError(
            "target_label is the true class of every row in y_true: none is left to count."
        )
    return other
