"""Printing of lines, names and tables."""

from __future__ import annotations

import csv
import io
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from antibackdoor.utils import safe_cell

# Longest line of a help text.
_HELP_WIDTH = 100


class OutputError(OSError):
    """The standard output cannot be written to: it is closed, or full."""


def printable(name: object) -> str:
    """Return a name without control characters and line breaks."""
    text = str(name)
    return text if text.isprintable() and text else repr(text)


def plural(number: int, one: str, more: str) -> str:
    """Return a number with its noun: 1 remark, 1,234 remarks."""
    return f"{number:,} {one if number == 1 else more}"


def table(rows: Mapping[str, str]) -> str:
    """Return names and what they mean, for a help text: a line each, or more of long ones."""
    width = max(map(len, rows)) + 2
    return "".join(
        textwrap.fill(
            f"{name:{width}}{meaning}",
            _HELP_WIDTH,
            initial_indent="  ",
            subsequent_indent=" " * (width + 2),
        )
        + "\n"
        for name, meaning in rows.items()
    )


def say(text: str = "") -> None:
    """Print a line to the standard output; characters that the terminal lacks are replaced.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with _told():
        _print(text, sys.stdout)


def note(text: str = "") -> None:
    """Print a line to the error stream; if that is closed, the command continues."""
    try:
        _print(text, sys.stderr)
    except OSError:
        # Nothing can be printed any more; the exit code remains.
        return


def to_csv(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a table that a spreadsheet can open without computing any of it.

    Parameters
    ----------
    rows : iterable of sequences
        Cells as `safe_cell` takes them.

    Returns
    -------
    bytes
        UTF-8; bytes of a file name that are no UTF-8 stand in it as they are.
    """
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerow(heads)
    table.writerows([safe_cell(cell) for cell in row] for row in rows)
    return buffer.getvalue().encode("utf-8", sys.getfilesystemencodeerrors())


def _print(text: str, stream: TextIO) -> None:
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"the standard output cannot be written to ({error.strerror or error}). What had been "
            f"written to files by then is there."
        ) from error
