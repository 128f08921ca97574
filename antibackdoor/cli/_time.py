"""The estimated time of a scan, in words, and how to shorten it."""

from __future__ import annotations

from antibackdoor.cli._data import LARGEST_UNASKED, Data
from antibackdoor.utils import in_words

# From this number of seconds on, hints on how to shorten a scan are printed.
_LONG = 3600


def tell_time(seconds: float, data: Data) -> list[str]:
    """Return lines that say about how long it takes.

    Parameters
    ----------
    seconds : float
        As `estimate_fit` gives them.
    """
    lines = [f"estimated time, from a few steps: about {in_words(seconds)}"]
    if seconds <= _LONG:
        return lines
    shorter = [
        "--list-only (the list alone, about three quarters of it)",
        "--epochs-scale 0.5 (half)",
    ]
    side = min(data.X.shape[1:3])
    small = LARGEST_UNASKED
    if data.folder is not None and side > small:
        share = (small / side) ** 2
        shorter.insert(0, f"--size {small} (images of {small} pixels, about {share:.1g} of it)")
    shorter.append("a GPU (--device cuda)")
    return [*lines, "what makes it shorter: " + "; ".join(shorter)]
