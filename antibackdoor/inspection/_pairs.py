"""Pictures of the flagged images of a class next to its unflagged ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from antibackdoor.inspection._pixels import to_pixels, value_range
from antibackdoor.inspection._sheets import make_sheets, to_uri
from antibackdoor.utils import ImageLayout, LazyRows

# Number of classes that are shown, those with the most flagged rows first.
_MOST_CLASSES = 10

# Number of unflagged images that are shown of a class, and of rows of either kind in an average.
_N_SHOWN = 16
_N_AVERAGED = 500

# A difference of grey values is amplified until the largest is black or white, but not by more than
# this: otherwise only pixel noise would be visible.
_MOST_ENLARGED = 16


def make_pairs(
    classifier: Any, X: np.ndarray | LazyRows, y: np.ndarray, layout: ImageLayout
) -> list[dict[str, Any]]:
    """Return pictures of how the flagged rows of each suspect class differ from the others.

    Parameters
    ----------
    classifier : object
        As `check_isolates` lets it through.
    X : numpy.ndarray or LazyRows of shape (n_samples, *layout.input_shape)
    y : numpy.ndarray of shape (n_samples,)

    Returns
    -------
    list of dict
        For each class that has unflagged rows too: ``label``; ``averages``, of the flagged rows,
        of the others, and their difference, each with ``uri`` and ``caption``; ``others``, a
        picture of some unflagged rows, and its ``caption``.
    """
    flagged = np.asarray(classifier.isolate_mask_)
    labels, counts = np.unique(y[flagged], return_counts=True)
    pairs = []
    for label in labels[np.argsort(-counts, kind="stable")][:_MOST_CLASSES]:
        is_class = y == label
        suspects, others = np.flatnonzero(is_class & flagged), np.flatnonzero(is_class & ~flagged)
        if len(others) == 0:
            continue
        shown = _spread(others, _N_SHOWN)
        pairs.append(
            {
                "label": str(label),
                "averages": _averages(X, suspects, others, layout),
                "others": make_sheets(X, shown, layout, in_line=True)["uris"][0],
                "caption": f"{len(shown)} of its {len(others):,} unflagged images",
            }
        )
    return pairs


def _averages(
    X: np.ndarray | LazyRows, suspects: np.ndarray, others: np.ndarray, layout: ImageLayout
) -> list[dict[str, str]]:
    rows = [np.asarray(X[_spread(part, _N_AVERAGED)]) for part in (suspects, others)]
    ranges = [value_range(values) for values in rows]
    limits = min(low for low, _ in ranges), max(high for _, high in ranges)
    of_suspects, of_others = (
        to_pixels(values, layout, limits).astype(np.float64).mean(axis=0) for values in rows
    )
    difference = of_suspects - of_others
    times = float(np.clip(127 / max(np.abs(difference).max(), 1e-9), 1, _MOST_ENLARGED))
    enlarged = (128 + times * difference).clip(0, 255)
    captions = (
        f"average of {len(suspects):,} flagged",
        f"average of {len(others):,} unflagged",
        "their difference" + (f", {times:.2g} times" if times >= 1.05 else ""),
    )
    return [
        {"uri": to_uri(np.rint(picture).astype(np.uint8)), "caption": caption}
        for picture, caption in zip((of_suspects, of_others, enlarged), captions, strict=True)
    ]


def _spread(rows: np.ndarray, at_most: int) -> np.ndarray:
    """Return some of the rows, evenly spaced from first to last."""
    if len(rows) <= at_most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, at_most).astype(np.int64)]
