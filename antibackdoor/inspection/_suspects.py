"""Choice of the rows to show."""

from __future__ import annotations

from typing import Any

import numpy as np

# Number of rows to show if nothing is flagged: enough to judge whether the search missed something.
_UNFLAGGED_SHOWN = 100


def most_suspect(classifier: Any, at_most: int) -> np.ndarray:
    """Return the flagged rows, most suspect first; if there are none, the most suspect rows.

    Parameters
    ----------
    classifier : object
        As `check_isolates` lets it through.

    Returns
    -------
    numpy.ndarray of shape (n_rows,), int64
        Empty if nothing is flagged and all rows are equally suspect.
    """
    if len(classifier.isolate_):
        return np.asarray(classifier.isolate_)[:at_most]
    scores = np.asarray(classifier.isolate_scores_)
    if scores.min() == scores.max():
        return np.array([], dtype=np.int64)
    order = np.argsort(-scores, kind="stable")
    return order[: min(at_most, _UNFLAGGED_SHOWN)].astype(np.int64)
