"""Which rows a person is shown."""

from __future__ import annotations

from typing import Any

import numpy as np

# Where nothing is flagged: enough to judge whether the search has missed something.
_UNFLAGGED_SHOWN = 100


def most_suspect(classifier: Any, at_most: int) -> np.ndarray:
    """Return the flagged rows, most suspect first; where there are none, the nearest to it.

    Parameters
    ----------
    classifier : object
        As `check_isolates` lets it through.
    at_most : int

    Returns
    -------
    numpy.ndarray of shape (n_rows,), int64
        Empty where nothing is flagged and no row is more suspect than another.
    """
    if len(classifier.isolate_):
        return np.asarray(classifier.isolate_)[:at_most]
    scores = np.asarray(classifier.isolate_scores_)
    if scores.min() == scores.max():
        return np.array([], dtype=np.int64)
    order = np.argsort(-scores, kind="stable")
    return order[: min(at_most, _UNFLAGGED_SHOWN)].astype(np.int64)
