"""How large a sign is where there is no poison: taken from the other classes of the same data."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from antibackdoor.detection._settings import SETTINGS


def normal_tail(values: np.ndarray, *, spread: float, weight: float) -> np.ndarray:
    """Return how often a natural class has so large a value as each, by a moderated t-test.

    Each value is compared with the others: with their median, of an even number the lower one, and
    their spread, beside which stands what other data has shown. Poison only adds to a value. So
    one far above the median counts for no more than two and a half deviations, by those below it.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_classes,)
        Nearly normal where there is no poison; nan of classes that were not looked at.
    spread : float
        Standard deviation that is expected beforehand.
    weight : float
        Number of classes that this expectation counts for.

    Returns
    -------
    numpy.ndarray of shape (n_classes,), float64
        p-values; 1 where the value is nan or the only one.

    References
    ----------
    Smyth, Linear Models and Empirical Bayes Methods for Assessing Differential Expression in
    Microarray Experiments, 2004, equation (4): the variance shrunk towards a prior one.
    """
    seen = np.flatnonzero(np.isfinite(values))
    tails = np.ones(len(values))
    if len(seen) > 1:
        for one in seen:
            others = values[seen[seen != one]]
            tails[one] = _normal_tail(values[one], others, spread, weight)
    return tails


def _normal_tail(value: float, others: np.ndarray, spread: float, weight: float) -> float:
    # The mean of the two in the middle would be half poison's where half of the classes have it.
    centre = np.sort(others)[(len(others) - 1) // 2]
    below = others[others <= centre] - centre
    lower = (weight * spread**2 + (below**2).sum()) / (weight + len(below))
    capped = np.minimum(others - centre, SETTINGS.most_deviations * np.sqrt(lower))
    variance = (weight * spread**2 + (capped**2).sum()) / (weight + len(others))
    # The median of so many normal values has an error of its own.
    variance *= 1 + np.pi / 2 / len(others)
    freedom = min(weight + len(others) - 1, SETTINGS.most_freedom)
    return float(student.sf((value - centre) / np.sqrt(variance), freedom))


def exponential_tail(values: np.ndarray, *, mean: float, weight: float) -> np.ndarray:
    """Return how often a natural class has so large a value, of an exponential distribution.

    Its mean is that of all other classes, beside what other data has shown: a gamma prior on the
    rate, so the tail is Lomax's. Natural values have a long tail, and all of it counts: where many
    classes have a large one, none stands out.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_classes,)
        nan of classes that were not looked at.
    mean : float
        Expected beforehand.
    weight : float
        Number of classes that this expectation counts for.

    Returns
    -------
    numpy.ndarray of shape (n_classes,), float64
        p-values; 1 where the value is nan.
    """
    is_seen = np.isfinite(values)
    seen = np.where(is_seen, np.maximum(values, 0.0), 0.0)
    of_others = weight * mean + seen.sum() - seen
    tails = (1 + seen / of_others) ** -(weight + is_seen.sum() - 1)
    return np.where(is_seen, tails, 1.0)
