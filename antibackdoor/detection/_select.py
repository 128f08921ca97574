"""From suspicion scores to flagged rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Isolation:
    """Suspicion of every training row, and who is flagged.

    Attributes
    ----------
    scores : numpy.ndarray of shape (n_samples,), float64
        Higher is more suspect.
    threshold : float
        Rows with a score above it are flagged.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.detection import Isolation
    >>> isolation = Isolation(np.array([0.7, 0.1, 0.9]), threshold=0.5)
    >>> isolation.mask, isolation.indices
    (array([ True, False,  True]), array([2, 0]))
    """

    scores: np.ndarray
    threshold: float

    @property
    def mask(self) -> np.ndarray:
        """Which rows are flagged, shape (n_samples,), bool."""
        return self.scores > self.threshold

    @property
    def indices(self) -> np.ndarray:
        """Flagged rows, most suspect first, int64."""
        order = np.argsort(-self.scores, kind="stable")
        return order[: np.count_nonzero(self.mask)].astype(np.int64)


def flag_most_suspect(scores: np.ndarray, ratio: float) -> Isolation:
    """Flag a share of the rows, one at least.

    Rows that tie with the first row outside the share are not flagged, so that
    scores which say nothing flag nobody.

    Parameters
    ----------
    scores : numpy.ndarray of shape (n_samples,)
    ratio : float
        Share of the rows, between 0 and 1.

    Returns
    -------
    Isolation

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.detection import flag_most_suspect
    >>> flag_most_suspect(np.array([0.7, 0.1, 0.9, 0.2]), ratio=0.25).indices
    array([2])
    """
    scores = scores.astype(np.float64)
    n_flagged = max(1, round(ratio * len(scores)))
    if n_flagged >= len(scores):
        return Isolation(scores, -np.inf)
    threshold = np.partition(scores, len(scores) - n_flagged - 1)[len(scores) - n_flagged - 1]
    return Isolation(scores, float(threshold))


def flag_above(scores: np.ndarray, threshold: float) -> Isolation:
    """Flag the rows whose score is above a threshold.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.detection import flag_above
    >>> flag_above(np.array([0.7, 0.1, 0.9]), threshold=0.5).indices
    array([2, 0])
    """
    return Isolation(scores.astype(np.float64), threshold)


def flag_nothing(n_samples: int) -> Isolation:
    """Suspect nobody.

    Examples
    --------
    >>> from antibackdoor.detection import flag_nothing
    >>> flag_nothing(3).mask
    array([False, False, False])
    """
    return Isolation(np.zeros(n_samples), np.inf)


def least_suspect_half(scores: np.ndarray, labels: np.ndarray, flagged: np.ndarray) -> np.ndarray:
    """Pick the less suspect half of the rows of every class that are not flagged.

    Parameters
    ----------
    scores : numpy.ndarray of shape (n_samples,)
        Higher is more suspect.
    labels : numpy.ndarray of shape (n_samples,)
    flagged : numpy.ndarray of shape (n_samples,), bool
        Left out, but in a class all of whose rows are flagged.

    Returns
    -------
    numpy.ndarray of shape (n_samples,), bool
        True for at least one row of every class.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.detection import least_suspect_half
    >>> scores, labels = np.array([0.7, 0.1, 0.9, 0.2]), np.array([0, 0, 1, 1])
    >>> least_suspect_half(scores, labels, flagged=scores > 0.8)
    array([False,  True, False,  True])
    """
    picked = np.zeros(len(scores), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero((labels == label) & ~flagged)
        if len(rows) == 0:
            rows = np.flatnonzero(labels == label)
        order = rows[np.argsort(scores[rows], kind="stable")]
        picked[order[: (len(rows) + 1) // 2]] = True
    return picked
