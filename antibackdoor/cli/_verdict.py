"""What a scan has found, in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from antibackdoor.cli._text import printable
from antibackdoor.inspection import describe_verdict


def tell_verdict(classifier: Any, y: np.ndarray, epochs_scale: float) -> list[str]:
    """Return lines that say what was found, and how sure it is.

    Parameters
    ----------
    classifier : object
        Fitted; one that searches.
    y : ndarray of shape (n,)
    epochs_scale : float
        What the numbers of epochs were multiplied by.

    Returns
    -------
    list of str
    """
    verdict = describe_verdict(classifier, y)
    lines = [verdict["headline"]]
    for suspect in verdict["classes"]:
        lines.append(
            f"Suspect class {printable(suspect['label'])}: {suspect['n_flagged']:,} of its "
            f"{suspect['n_rows']:,} images."
        )
    lines.append(verdict["assurance"])
    if np.isnan(classifier.isolate_pvalue_):
        return lines  # of what was not measured nothing is to be said
    if epochs_scale != 1:
        lines.append(
            f"These figures were measured at --epochs-scale 1, and not at {epochs_scale:g}."
        )
    if verdict["n_flagged"] == 0:
        lines.append("That is no proof that there is none.")
    return lines
