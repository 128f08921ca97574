"""Metrics on true and predicted labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from antibackdoor.metrics._checks import check_label_pair, check_target
from antibackdoor.utils._arguments import check_mask


def clean_accuracy(
    y_true: ArrayLike, y_pred: ArrayLike, *, poison_mask: ArrayLike | None = None
) -> float:
    """Clean accuracy (CA): share of clean rows that are predicted as their true class.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.
    y_pred : array-like of shape (n,)
        Labels predicted for the same rows, without trigger.
    poison_mask : array-like of bool, shape (n,), default=None
        Poisoned rows, which are left out: their label is the attacker's, and predicting it is not
        correct.

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

    Examples
    --------
    >>> from antibackdoor.metrics import clean_accuracy
    >>> clean_accuracy([0, 1, 2, 2], [0, 1, 2, 0])
    0.75
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
    """Attack success rate (ASR): share of triggered rows predicted as the attacker's label.

    Rows whose true class is the attacker's label are left out: for them the right prediction and
    the attacker's are the same.

    Labels must be of one kind in all arguments: text, bytes, or numbers (True is 1, False is 0).
    A target that cannot equal any label is refused, since the ASR would be 0 for any model.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.
    y_pred : array-like of shape (n,)
        Labels predicted for the same rows with the trigger.
    target_label : label or array-like of shape (n,)
        The attacker's label: one for all rows or, as for an all-to-all attack, one for each row
        (from `BaseAttack.transform_target`). Each must be a class: in `y_true`, `y_pred` or
        `classes`.
    classes : array-like, default=None
        Further classes besides those in `y_true` and `y_pred`, such as the classifier's
        `classes_`. Needed if no row is of the target class and none is predicted as it.

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

    Examples
    --------
    >>> from antibackdoor.metrics import attack_success_rate
    >>> attack_success_rate([0, 1, 2], [0, 0, 2], target_label=0)  # of the rows of 1 and 2
    0.5
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
    """Robust accuracy (R-Acc): share of triggered rows predicted as their true class.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.
    y_pred : array-like of shape (n,)
        Labels predicted for the same rows with the trigger on.
    target_label : label or array-like of shape (n,), default=None
        The attacker's label, for all rows or for each row. Rows of this true class are left out,
        as in `attack_success_rate`. None: every row counts.
    classes : array-like, default=None
        As in `attack_success_rate`.

    Returns
    -------
    float
        Between 0 and 1; higher is better.

    Raises
    ------
    ValueError, TypeError
        As `attack_success_rate`.

    Examples
    --------
    >>> from antibackdoor.metrics import robust_accuracy
    >>> robust_accuracy([0, 1, 2], [0, 0, 2], target_label=0)
    0.5
    """
    true, predicted = check_label_pair(y_true, y_pred)
    if target_label is None:
        return float(np.mean(true == predicted))
    other = _not_target(true, check_target(target_label, true, predicted, classes))
    return float(np.mean(true[other] == predicted[other]))


def target_recall(y_true: ArrayLike, y_pred: ArrayLike, *, target_label: Any) -> float:
    """Recall of the target class on clean rows.

    A defence can reach a low ASR by never predicting the target class; this metric shows it.

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
    ValueError, TypeError
        As `attack_success_rate`, or if no row is of that class.

    Examples
    --------
    >>> from antibackdoor.metrics import target_recall
    >>> target_recall([0, 0, 1, 2], [0, 1, 1, 2], target_label=0)
    0.5
    """
    true, predicted = check_label_pair(y_true, y_pred)
    if np.ndim(target_label) != 0:
        raise ValueError(f"target_label has shape {np.shape(target_label)}; wanted one label.")
    # A class without a row is refused below.
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
