"""A reviewed list of suspects, in place of the search."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from antibackdoor.cli._checks import expand
from antibackdoor.cli._data import Data
from antibackdoor.cli._text import plural
from antibackdoor.inspection import read_decisions


def read_suspects(path: Path | None, data: Data) -> tuple[np.ndarray | None, list[str]]:
    """Return the rows not to be trusted, and lines about them.

    Parameters
    ----------
    path : Path or None
        The word after ``--decisions``.

    Returns
    -------
    suspects : ndarray of shape (n,), bool, or None
        None if no list was given.

    Raises
    ------
    ValueError
        If it is not such a list, or about other data.
    FileNotFoundError
        If it is not there.
    """
    if path is None:
        return None, []
    decisions = read_decisions(
        expand("--decisions", path),
        data.X,
        data.y,
        file_names=data.file_names,
        folder=data.folder,
    )
    confirmed, cleared, undecided = (
        int(mask.sum()) for mask in (decisions.confirmed, decisions.cleared, decisions.undecided)
    )
    lines = [
        f"The list is yours: {confirmed:,} confirmed and {cleared:,} cleared. The data was not "
        f"searched."
    ]
    if undecided:
        flagged = plural(undecided, "flagged image is", "flagged images are")
        lines.append(f"{flagged} undecided, and taken for poison.")
    return decisions.suspects, lines
