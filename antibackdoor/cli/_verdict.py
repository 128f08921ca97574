"""The verdict of a scan, as lines."""

from __future__ import annotations

from typing import Any

import numpy as np

from antibackdoor.cli._text import printable
from antibackdoor.inspection import describe_verdict


def tell_verdict(classifier: Any, y: np.ndarray) -> list[str]:
    """Return lines that say what was found, and how sure it is.

    Parameters
    ----------
    classifier : object
        Fitted; one that searches.
    y : ndarray of shape (n,)
    """
    verdict = describe_verdict(classifier, y)
    lines = [verdict["headline"]]
    for suspect in verdict["classes"]:
        lines.append(
            f"Suspect class {printable(suspect['label'])}: {suspect['n_flagged']:,} of its "
            f"{suspect['n_rows']:,} images."
        )
    lines.append(verdict["assurance"])
    lines += verdict["caveats"]
    return lines
