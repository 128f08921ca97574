"""Poisoning of arrays."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array, check_random_state

from antibackdoor.attacks import BaseAttack, ensure_fitted, make_attack
from antibackdoor.utils import as_labels, as_rows, naming
from antibackdoor.utils._arguments import as_numbers
from antibackdoor.utils._numbers import check_number


@overload
def make_poisoned(
    X: ArrayLike,
    y: ArrayLike,
    *,
    attack: str | BaseAttack = ...,
    poison_rate: float = ...,
    target_label: Any = ...,
    random_state: int | np.random.RandomState | None = ...,
    return_cover: Literal[False] = ...,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


@overload
def make_poisoned(
    X: ArrayLike,
    y: ArrayLike,
    *,
    attack: str | BaseAttack = ...,
    poison_rate: float = ...,
    target_label: Any = ...,
    random_state: int | np.random.RandomState | None = ...,
    return_cover: Literal[True],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]: ...


def make_poisoned(
    X: ArrayLike,
    y: ArrayLike,
    *,
    attack: str | BaseAttack = "badnets",
    poison_rate: float = 0.1,
    target_label: Any = None,
    random_state: int | np.random.RandomState | None = None,
    return_cover: bool = False,
) -> tuple[np.ndarray, ...]:
    """Poison a part of a data set, to try defences on it.

    Rows are drawn at random from those that the attack can use. These are rows of all classes but
    the target; for a clean-label attack rows of the target class only; for an all-to-all attack
    rows of any class. They get the trigger and the attacker's label. Some attacks also turn other
    rows into cover rows, which keep their label.

    Parameters
    ----------
    X : array-like of shape (n, n_features), (n, H, W), (n, H, W, C) or (n, C, H, W)
        Clean rows, also as ``np.memmap``. Never changed.
    y : array-like of shape (n,)
        Their labels: whole numbers, strings or booleans. Never changed.
    attack : str or BaseAttack, default="badnets"
        A name, which is a key of `antibackdoor.attacks.ATTACKS`, or an attack object. Give an
        object to set `image_shape`, `layout`, `label_map` or parameters of the attack. A fitted
        attack is used as it is. Otherwise a clone is fitted on X and y; attacks that train take
        their time for it.
    poison_rate : float, default=0.1
        Poisoned rows as a share of ALL rows, between 0 and 1; at least one row
        is poisoned.
    target_label : int, float, bool or str, default=None
        Class that the network shall predict for triggered rows. None: that of the attack, which
        is 0 for a name. Do not give it with an attack object: a contradiction is refused.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of rows and of the noise of cover rows. The trigger does not depend on
        it: it belongs to the attack and is the same every time.
    return_cover : bool, default=False
        Whether to return `cover_mask` too.

    Returns
    -------
    X_poisoned : ndarray of X's shape and dtype
        A new array with the rows in the same order.
    y_poisoned : ndarray of shape (n,)
        A new array with the dtype of y.
    poison_mask : ndarray of bool, shape (n,)
        The poisoned rows, without cover rows.
    cover_mask : ndarray of bool, shape (n,)
        The cover rows that were changed; only if `return_cover`.

    Raises
    ------
    ValueError
        If an argument is out of range, X and y do not match, or there are fewer rows to poison
        than wanted. Also if the trigger changes nothing, which is no value by half a 255th of the
        value range.
    TypeError
        If an argument is of a wrong type.

    Examples
    --------
    >>> from antibackdoor.datasets import load_digits_images, make_poisoned
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X, y, poison_rate=0.1, random_state=0)
    >>> int(poison_mask.sum())
    180
    """
    attack = _choose_attack(attack, target_label)
    with naming("X"):
        rows = as_numbers(check_array(as_rows(X), dtype="numeric", allow_nd=True, input_name="X"))
    labels = as_labels("y", y)
    if len(rows) != len(labels):
        raise ValueError(f"X has {len(rows)} rows, but y has {len(labels)} labels.")
    rng = check_random_state(random_state)

    poisoned, cover = draw_rows(attack, labels, poison_rate, rng)
    attack = ensure_fitted(attack, rows, labels)
    stamped = attack.transform_training(rows[poisoned], labels[poisoned], random_state=rng)
    if not attack._find_changed(stamped, rows[poisoned]).any():
        raise ValueError(
            f"attack={attack!r} changes none of the {len(poisoned)} rows it was given: the "
            f"trigger is not visible in this X; give other parameters."
        )

    poison_mask = _to_mask(poisoned, len(rows))
    y_poisoned = np.where(poison_mask, attack.transform_target(labels), labels)
    X_poisoned = np.array(rows)
    X_poisoned[poisoned] = stamped
    if len(cover):
        covers = attack.transform_cover(rows[cover], labels[cover], random_state=rng)
        # A cover row may be unchanged: one that is mixed with its class, but alone in it.
        differ = attack._find_changed(covers, rows[cover])
        cover = cover[differ]
        X_poisoned[cover] = covers[differ]
    if return_cover:
        return X_poisoned, y_poisoned, poison_mask, _to_mask(cover, len(rows))
    return X_poisoned, y_poisoned, poison_mask


def draw_rows(
    attack: BaseAttack, labels: np.ndarray, poison_rate: float, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows to poison, and the cover rows.

    Parameters
    ----------
    attack : BaseAttack
        Need not be fitted.
    labels : ndarray of shape (n,)

    Returns
    -------
    poisoned, cover : ndarray of int
        Indices of the rows.

    Raises
    ------
    ValueError, TypeError
        If the rate or a parameter of the attack is not valid, or there are too few rows.
    """
    _check_poison_rate(poison_rate)
    # Checked before `fit` does, since drawing the rows uses the parameters.
    attack._validate_params()
    poisoned = _draw_poison(attack.eligible(labels), poison_rate, attack, rng)
    return poisoned, _draw_cover(len(labels), poisoned, attack, rng)


def _check_poison_rate(poison_rate: Any) -> None:
    wanted = "wanted a number above 0 and below 1, the share of all rows to poison"
    check_number("poison_rate", poison_rate, wanted)
    if not 0 < poison_rate < 1:
        raise ValueError(f"poison_rate={poison_rate!r}; {wanted}.")


def _choose_attack(attack: str | BaseAttack, target_label: Any) -> BaseAttack:
    if np.ndim(target_label) != 0:
        raise TypeError(f"target_label={target_label!r}; wanted one label.")
    return make_attack(attack, **({} if target_label is None else {"target_label": target_label}))


def _draw_poison(
    eligible: np.ndarray, poison_rate: float, attack: BaseAttack, rng: np.random.RandomState
) -> np.ndarray:
    candidates = np.flatnonzero(eligible)
    wanted = max(1, round(poison_rate * len(eligible)))
    if wanted > len(candidates):
        raise ValueError(
            f"poison_rate={poison_rate!r} of {len(eligible)} rows is {wanted}, but "
            f"{type(attack).__name__} can poison only {len(candidates)} of them"
            f"{' (those of the target class)' if attack.clean_label else ''}."
        )
    return rng.choice(candidates, size=wanted, replace=False)


def _draw_cover(
    n_rows: int, poisoned: np.ndarray, attack: BaseAttack, rng: np.random.RandomState
) -> np.ndarray:
    wanted = round(attack.cover_ratio * len(poisoned))
    rest = np.setdiff1d(np.arange(n_rows), poisoned)
    if wanted > len(rest):
        raise ValueError(
            f"poison_rate asks for {len(poisoned)} of {n_rows} rows, and with "
            f"{attack.cover_ratio:g} cover rows for each of them for {wanted} more, but only "
            f"{len(rest)} are left; give a lower poison_rate or fewer cover rows."
        )
    return rng.choice(rest, size=wanted, replace=False)


def _to_mask(rows: np.ndarray, n_rows: int) -> np.ndarray:
    mask = np.zeros(n_rows, dtype=bool)
    mask[rows] = True
    return mask
