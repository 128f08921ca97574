"""How large a sign is where there is no poison: taken from the other classes of the same data."""

from __future__ import annotations

import numpy as np


def exponential_tail(
    values: np.ndarray, *, mean: float, weight: float, most: float = np.inf
) -> np.ndarray:
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
    most : float
        Poison in other classes is not to vouch for this one: a value counts for so many means, by
        what is expected, at most.

    Returns
    -------
    numpy.ndarray of shape (n_classes,), float64
        p-values; 1 where the value is nan.
    """
    is_seen = np.isfinite(values)
    seen = np.where(is_seen, np.maximum(values, 0.0), 0.0)
    counted = np.minimum(seen, most * mean)
    of_others = weight * mean + counted.sum() - counted
    tails = (1 + seen / of_others) ** -(weight + is_seen.sum() - 1)
    return np.where(is_seen, tails, 1.0)
