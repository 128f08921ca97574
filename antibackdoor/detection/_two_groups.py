"""Numbers in two groups."""

from __future__ import annotations

import numpy as np


def middle_of_two(values: np.ndarray) -> float:
    """Return the middle between the means of two groups of numbers, two or more, found by 2-means.

    The best of all cuts, where `sklearn.cluster.KMeans` would give other last bits for
    another number of threads.
    """
    ordered = np.sort(values)
    n_below = np.arange(1, len(ordered))
    n_above = len(ordered) - n_below
    below = np.cumsum(ordered)[:-1]
    above = ordered.sum() - below
    # The squares within the groups are least where those between them are largest.
    best = np.argmax(below**2 / n_below + above**2 / n_above)
    return float(below[best] / n_below[best] + above[best] / n_above[best]) / 2
