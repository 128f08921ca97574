"""How large a sign is where there is no poison: taken from the other classes of the same data."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student


def normal_tail(values: np.ndarray, *, spread: float, weight: float) -> np.ndarray:
    """Return how often a natural class has so large a value as each, by a moderated t-test.

    The centre is the median of the classes, of an even number the lower one. Their spread is told
    by the lower half, which poison does not reach, as it only adds to a value; beside it stands
    what other data has shown.

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
        p-values; 1 where the value is nan.

    References
    ----------
    Smyth, Linear Models and Empirical Bayes Methods for Assessing Differential Expression in
    Microarray Experiments, 2004, equation (4): the variance shrunk towards a prior one.
    """
    seen = values[np.isfinite(values)]
    if len(seen) == 0:
        return np.ones(len(values))
    # The mean of the two in the middle would be half poison's where half of the classes have it.
    centre = np.sort(seen)[(len(seen) - 1) // 2]
    below = seen[seen <= centre] - centre
    freedom = weight + len(below) - 1
    variance = (weight * spread**2 + (below**2).sum()) / (weight + len(below))
    tails = student.sf((values - centre) / np.sqrt(variance), freedom)
    return np.where(np.isfinite(values), tails, 1.0)


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
