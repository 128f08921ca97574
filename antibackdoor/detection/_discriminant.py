"""Two parts of a class told apart, each row by a linear discriminant fitted to other rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from sklearn.covariance import ledoit_wolf

from antibackdoor.detection._cross_fit import CrossFit
from antibackdoor.detection._two_groups import log_odds_of_two

# Each part has at least this many rows in each half, and this share of those of the class.
SMALLEST_PART = 3
_SMALLEST_SHARE = 0.01

_FOLDS = 5

_ROUNDS_TO_WIDEN = 8

# A direction in which all rows are the same tells nothing, and has no spread to divide by.
_SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True)
class View:
    """Rows that one of two networks has not seen.

    Attributes
    ----------
    unseen : numpy.ndarray of shape (n_rows,), bool
        Which of the rows.
    values : numpy.ndarray of shape (n_unseen, n_columns), float64
        Their features, of covariance about one in all directions: the direction that tells two
        parts apart best, by Fisher's criterion, is then that from one mean to the other.
    """

    unseen: np.ndarray
    values: np.ndarray


def look_at(
    fitted: CrossFit, rows: np.ndarray, labels: np.ndarray | None = None
) -> tuple[View, View]:
    """Return what each network sees in those of some rows that it was not shown.

    Parameters
    ----------
    fitted : CrossFit
    rows : numpy.ndarray of shape (n_rows,), int64
    labels : numpy.ndarray of shape (n_rows,), int, default=None
        Of rows of several classes: each is seen as it differs from the mean of its class.

    Returns
    -------
    tuple of two View
    """
    labels = np.zeros(len(rows), dtype=np.int64) if labels is None else labels
    return _view(fitted, rows, labels, 0), _view(fitted, rows, labels, 1)


def standardise(features: np.ndarray) -> np.ndarray:
    """Return columns of mean 0 and deviation 1, (n_rows, n_columns), without constant ones."""
    values = features.astype(np.float64)
    spread = values.std(axis=0)
    return (values - values.mean(axis=0))[:, spread > 0] / spread[spread > 0]


def discriminate(
    views: tuple[View, View], first: np.ndarray, n_rounds: int = 1
) -> np.ndarray | None:
    """Return the probability of the first of two parts of a class.

    One discriminant for each view, fitted to the parts of four fifths of its rows and asked about
    the fifth.

    Parameters
    ----------
    views : tuple of two View
    first : numpy.ndarray of shape (n_rows,), bool
        Which rows of the class are taken for the first part.
    n_rounds : int, default=1
        At most; each begins from the parts that the one before told.

    Returns
    -------
    numpy.ndarray of shape (n_rows,), float64, or None
        None where a part vanishes.
    """
    probabilities = np.empty(len(first))
    for view in views:
        parts = first[view.unseen]
        for _ in range(n_rounds):
            if not are_two(parts):
                return None
            told = expit(_out_of_fold(view.values, parts))
            parts, before = told > 0.5, parts
            if (parts == before).all():
                break
        if not are_two(parts):
            return None
        probabilities[view.unseen] = told
    return probabilities


def widen(
    views: tuple[View, View],
    first: np.ndarray,
    may_join: np.ndarray,
    evidence: np.ndarray,
    n_rounds: int = _ROUNDS_TO_WIDEN,
) -> np.ndarray:
    """Return the probability of the first of two parts, of which only some rows are known.

    As `discriminate`, but the odds are those of the two groups that all rows fall into: rows that
    are alike are of one group, whatever they were called.

    Parameters
    ----------
    views : tuple of two View
    first : numpy.ndarray of shape (n_rows,), bool
        Rows that are taken for the first part.
    may_join : numpy.ndarray of shape (n_rows,), bool
        Rows that the next round may be fitted to as such, if the odds are for it.
    evidence : numpy.ndarray of shape (n_rows,), float64
        Log odds of the first part that something else than the features gives, in nats.
    n_rounds : int, default=8

    Returns
    -------
    numpy.ndarray of shape (n_rows,), float64
        Of a view where a round leaves next to nothing of a part, what was told before it.
    """
    probabilities = first.astype(np.float64)
    for view in views:
        parts = first[view.unseen]
        for _ in range(n_rounds):
            if not are_two(parts):
                break
            along = _out_of_fold(view.values, parts)
            told = expit(log_odds_of_two(along, parts, evidence[view.unseen]))
            if not are_two(told > 0.5):
                break
            parts = (told > 0.5) & may_join[view.unseen]
            probabilities[view.unseen] = told
    return probabilities


def _view(fitted: CrossFit, rows: np.ndarray, labels: np.ndarray, number: int) -> View:
    unseen = fitted.half[rows] != number
    features = fitted.features[number][rows[unseen]].astype(np.float64)
    for label in np.unique(labels[unseen]):
        of_label = labels[unseen] == label
        features[of_label] -= features[of_label].mean(axis=0)
    values = standardise(features)
    if values.shape[1] == 0:
        return View(unseen, values)
    covariance, _ = ledoit_wolf(values, assume_centered=True)
    variances, directions = np.linalg.eigh(covariance)
    return View(unseen, values @ directions / np.sqrt(np.maximum(variances, _SMALLEST_VARIANCE)))


def are_two(parts: np.ndarray) -> bool:
    """Tell whether neither of two parts of the rows of a view is next to nothing."""
    smallest = max(SMALLEST_PART, _SMALLEST_SHARE * len(parts))
    return bool(min(parts.sum(), (~parts).sum()) >= smallest)


def _out_of_fold(values: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return the log odds of each row to be of the first part, by the rows of other folds."""
    n_folds = min(_FOLDS, parts.sum(), (~parts).sum())
    fold = np.empty(len(parts), dtype=np.int64)
    for part in (parts, ~parts):
        fold[part] = np.arange(part.sum()) % n_folds
    odds = np.empty(len(parts))
    for number in range(n_folds):
        shown, asked = fold != number, fold == number
        direction = values[shown & parts].mean(axis=0) - values[shown & ~parts].mean(axis=0)
        along = values @ direction
        one, other = along[shown & parts], along[shown & ~parts]
        squares = ((one - one.mean()) ** 2).sum() + ((other - other.mean()) ** 2).sum()
        apart = one.mean() - other.mean()
        slope = apart / max(squares / shown.sum(), _SMALLEST_VARIANCE)
        middle = (one.mean() + other.mean()) / 2
        odds[asked] = slope * (along[asked] - middle) + logit(len(one) / shown.sum())
    return odds
