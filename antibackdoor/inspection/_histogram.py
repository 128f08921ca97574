"""Histogram bins for suspicion scores, with the threshold as an edge."""

from __future__ import annotations

import numpy as np

_N_BINS = 50


def bin_edges(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return the edges of about fifty bins; no bin holds both flagged and other rows.

    Parameters
    ----------
    scores : numpy.ndarray of shape (n_samples,)
    threshold : float
        Rows with a score above it are flagged.

    Returns
    -------
    numpy.ndarray of shape (n_bins + 1,)
    """
    low, high = float(scores.min()), float(scores.max())
    if low == high:
        return np.array([low - 0.5, high + 0.5])
    # A bin includes its left edge, but a score equal to the threshold is not flagged.
    cut = np.nextafter(threshold, np.inf)
    if not low < cut < high:
        return np.linspace(low, high, _N_BINS + 1)
    n_below = min(max(1, round(_N_BINS * (cut - low) / (high - low))), _N_BINS - 1)
    below, above = np.linspace(low, cut, n_below + 1), np.linspace(cut, high, _N_BINS - n_below + 1)
    return np.concatenate([below, above[1:]])
