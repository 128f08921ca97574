"""A reviewer's decisions about the suspects, read from the file that the review page saves."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from antibackdoor.utils import LazyRows, naming, safe_cell

#: Columns that the page saves, and ``file_name`` if it has the names.
COLUMNS = ("line", "row", "label", "suspicion", "flagged", "decision", "sha256")

_CONFIRMED, _CLEARED, _UNDECIDED = _WORDS = ("confirmed", "cleared", "undecided")

# Digits of a digest that are kept. They detect a changed file, but no deliberate forgery.
_DIGITS = 16


# eq=False: a generated __eq__ would raise, since arrays have no single truth value.
@dataclass(frozen=True, eq=False)
class Decisions:
    """A reviewer's decisions about rows of training data, as masks.

    `read_decisions` returns one; `suspects` is for `fit`::

        decisions = read_decisions("decisions.csv", X, y)
        clf = ABLClassifier().fit(X, y, suspects=decisions.suspects)

    Attributes
    ----------
    confirmed : numpy.ndarray of shape (n_samples,), bool
        Rows confirmed as poison.
    cleared : numpy.ndarray of shape (n_samples,), bool
        Rows cleared as no poison.
    undecided : numpy.ndarray of shape (n_samples,), bool
        Flagged rows without a decision.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.inspection import Decisions
    >>> decisions = Decisions(
    ...     confirmed=np.array([True, False, False]),
    ...     cleared=np.array([False, True, False]),
    ...     undecided=np.array([False, False, True]),
    ... )
    >>> decisions.suspects
    array([ True, False,  True])
    """

    confirmed: np.ndarray
    cleared: np.ndarray
    undecided: np.ndarray

    @property
    def suspects(self) -> np.ndarray:
        """Rows not to be trusted: all flagged or confirmed rows except the cleared ones."""
        return self.confirmed | self.undecided


@dataclass(frozen=True)
class Decision:
    """One line of the file.

    Attributes
    ----------
    place : str
        Place of the line, for messages.
    """

    place: str
    row: int
    label: str
    word: str
    digest: str
    flagged: bool
    file_name: str | None

    @property
    def is_confirmed(self) -> bool:
        """Whether the row counts as poison."""
        return self.word == _CONFIRMED

    @property
    def is_undecided(self) -> bool:
        """Whether the row is flagged and has no decision."""
        return self.word == _UNDECIDED and self.flagged


def read_decisions(
    path: str | os.PathLike[str],
    X: ArrayLike | LazyRows,
    y: ArrayLike,
    *,
    file_names: Sequence[str | os.PathLike[str]] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Decisions:
    """Read the decisions that were saved from the page of `write_report`.

    Every line is compared with the data, so that no decision is applied to another row.

    Parameters
    ----------
    path : str or path
        The saved file, decisions.csv.
    X : array-like of shape (n_samples, ...)
        The data of the page. If `folder` is given, the values of X are not used.
    y : array-like of shape (n_samples,)
        The labels.
    file_names : sequence of str or path of length n_samples, default=None
        As given to `write_report`.
    folder : str or path, default=None
        As given to `write_report`.

    Returns
    -------
    Decisions

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not such a file, or incomplete, or about other data.

    See Also
    --------
    write_report : Makes the page.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier
    >>> from antibackdoor.inspection import read_decisions
    >>> decisions = read_decisions("decisions.csv", X, y)  # doctest: +SKIP
    >>> ABLClassifier().fit(X, y, suspects=decisions.suspects)  # doctest: +SKIP
    >>> X_kept, y_kept = X[~decisions.confirmed], y[~decisions.confirmed]  # doctest: +SKIP
    """
    X = X if isinstance(X, LazyRows) else np.asarray(X)
    y = np.asarray(y)
    if len(X) != len(y):
        raise ValueError(f"X has {len(X)} rows and y has {len(y)}; wanted as many.")
    names = None if file_names is None else [os.fsdecode(name) for name in file_names]
    if names is not None and len(names) != len(y):
        raise ValueError(
            f"file_names holds {len(names)} names, but y has {len(y)}; wanted one each."
        )
    if folder is not None and names is None:
        raise ValueError(f"folder={os.fspath(folder)!r} without file_names; wanted both or none.")
    rows_of = None if names is None else {as_cell(name): row for row, name in enumerate(names)}
    masks = {word: np.zeros(len(y), dtype=bool) for word in _WORDS}
    for one in read_lines(path):
        row = _find_row(one, rows_of, len(y))
        if as_cell(str(y[row])) != one.label:
            raise ValueError(
                f"{one.place} is about an image of class {one.label!r}, and row {row} is of "
                f"{str(y[row])!r}: these are the decisions about other data."
            )
        check_digest(one, digest_of(X, row, names, folder))
        if one.is_confirmed or one.is_undecided or one.word == _CLEARED:
            masks[one.word][row] = True
    return Decisions(**masks)


def read_lines(path: str | os.PathLike[str]) -> list[Decision]:
    """Read the lines of a saved file, which must be complete.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not such a file, or incomplete.
    """
    with naming("path"):
        file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except FileNotFoundError:
        raise FileNotFoundError(f"path={str(path)!r}: there is no such file.") from None
    except IsADirectoryError:
        raise ValueError(f"path={str(path)!r} is a folder; wanted the saved decisions.") from None
    named = f"path={str(path)!r}"
    head = text.partition("\n")[0]
    # In some languages spreadsheets replace commas by semicolons.
    delimiter = ";" if ";" in head and "," not in head else ","
    try:
        table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        records = list(table)
    except csv.Error as error:
        raise ValueError(f"{named} is not whole: {error}. Save the decisions again.") from None
    missing = [name for name in COLUMNS if name not in (table.fieldnames or [])]
    if missing:
        raise ValueError(
            f"{named} has no column {', '.join(missing)}; wanted the decisions that the page of a "
            f"scan, or of write_report, saves."
        )
    decisions = [_read_line(named, number, record) for number, record in enumerate(records, 1)]
    of = records[0]["line"].partition(" of ")[2] if records else ""
    if str(len(records)) != of:
        raise ValueError(
            f"{named} holds {len(records)} of {of or 'an unknown number of'} lines; wanted all: "
            f"save the decisions again."
        )
    keys = [one.file_name if one.file_name is not None else one.row for one in decisions]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{named} decides about {twice!r} twice; wanted one line each.")
    return decisions


def check_digest(one: Decision, digest: str) -> None:
    """Raise a ValueError if a row is not the one that was decided about."""
    if digest != one.digest:
        what = repr(one.file_name) if one.file_name is not None else f"row {one.row}"
        raise ValueError(
            f"{one.place}: {what} is not what was decided about. It has changed since, or these "
            f"are the decisions about other data. Make a new page, and decide again."
        )


def digest_of(
    X: np.ndarray | LazyRows,
    row: int,
    names: Sequence[str] | None,
    folder: str | os.PathLike[str] | None,
) -> str:
    """Return the identity of a row: the start of the SHA-256 of its file, or of its values."""
    if folder is not None and names is not None:
        return file_digest(Path(folder) / names[row])
    values = np.ascontiguousarray(X[row : row + 1])
    return sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()[:_DIGITS]


def as_cell(text: str) -> str:
    """Return a text as the page saves it: not a formula, and in UTF-8."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", str(safe_cell(text)))


def file_digest(path: Path) -> str:
    """Return the identity of a file: the start of its SHA-256."""
    try:
        with path.open("rb") as file:
            digest = sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()[:_DIGITS]


def _find_row(one: Decision, rows_of: dict[str, int] | None, n_rows: int) -> int:
    if rows_of is None:
        if one.row >= n_rows:
            raise ValueError(
                f"{one.place} is about row {one.row}, and there are {n_rows}: these are the "
                f"decisions about other data."
            )
        return one.row
    found = None if one.file_name is None else rows_of.get(one.file_name)
    if found is None:
        raise ValueError(
            f"{one.place}: there is no image {one.file_name!r}. These are the decisions about "
            f"another folder, or it has been taken away since."
        )
    return found


def _read_line(named: str, number: int, record: dict[str, Any]) -> Decision:
    place = f"{named}, line {number + 1}"
    wanted = [*COLUMNS, *(["file_name"] if "file_name" in record else [])]
    if any(record[name] is None for name in wanted) or None in record:
        raise ValueError(f"{place} is not whole. Save the decisions again.")
    if not record["row"].isdecimal():
        raise ValueError(f"{place} has the row {record['row']!r}; wanted a whole number.")
    if record["flagged"] not in ("0", "1"):
        raise ValueError(f"{place} has flagged {record['flagged']!r}; wanted 0 or 1.")
    word = record["decision"].strip().lower()
    if word not in _WORDS:
        raise ValueError(
            f"{place} has the decision {record['decision']!r}; wanted {', '.join(_WORDS[:-1])} or "
            f"{_WORDS[-1]}."
        )
    return Decision(
        place=place,
        row=int(record["row"]),
        label=record["label"],
        word=word,
        digest=record["sha256"],
        flagged=record["flagged"] == "1",
        file_name=record.get("file_name"),
    )
