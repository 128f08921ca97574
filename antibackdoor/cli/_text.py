"""Names from anywhere, on a terminal and in tables."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(name: object) -> str:
    """Return a name with no characters that would steer a terminal or break a line."""
    text = str(name)
    return text if text.isprintable() and text else repr(text)


def say(text: str = "", *, file: TextIO | None = None) -> None:
    """Print a line, whatever characters the terminal lacks."""
    stream = sys.stdout if file is None else file
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def to_csv(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a table that a spreadsheet can open without computing any of it.

    Parameters
    ----------
    heads : sequence of str
    rows : iterable of sequences
        Numbers stay as they are. A text that begins as a formula gets a ``'`` before it.

    Returns
    -------
    bytes
        UTF-8; bytes of a file name that are no UTF-8 stand in it as they are.
    """
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerow(heads)
    table.writerows([_safe(cell) for cell in row] for row in rows)
    return buffer.getvalue().encode("utf-8", sys.getfilesystemencodeerrors())


def _safe(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
