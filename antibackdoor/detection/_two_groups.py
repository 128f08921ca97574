"""Numbers in two groups."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

_STEPS = 100

# A group of equal numbers has some variance too, and one that vanishes some share.
_SMALLEST_VARIANCE = 1e-6
_SMALLEST_SHARE = 1e-3


def log_odds_of_two(values: np.ndarray, first: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Return the log odds of numbers to be of the first of two groups.

    The groups are Gaussians of one variance and any shares, found by expectation and maximisation.
    2-means, which is better known, would cut through the larger group where the other is few.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_values,), float64
    first : numpy.ndarray of shape (n_values,), bool
        A guess at the first group; neither of the two is empty.
    evidence : numpy.ndarray of shape (n_values,), float64
        Log odds that something else gives for the first group, in nats; 0 where it tells nothing.

    Returns
    -------
    numpy.ndarray of shape (n_values,), float64
    """
    told = np.where(first, 0.95, 0.05)
    for _ in range(_STEPS):
        share = float(np.clip(told.mean(), _SMALLEST_SHARE, 1 - _SMALLEST_SHARE))
        one, other = np.average(values, weights=told), np.average(values, weights=1 - told)
        squares = told * (values - one) ** 2 + (1 - told) * (values - other) ** 2
        slope = (one - other) / max(squares.mean(), _SMALLEST_VARIANCE)
        odds = slope * (values - (one + other) / 2) + logit(share) + evidence
        told = np.clip(expit(odds), 1e-12, 1 - 1e-12)
    return odds
