"""Rows of files: a line is the row of a cell, and whatever else it is is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from antibackdoor.benchmark._cells import Cell
from antibackdoor.benchmark._run import MEASURES

Row = dict[str, Any]

_CELL = tuple(field.name for field in fields(Cell))


@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """What the rows of a file are like.

    Attributes
    ----------
    key : callable
        Given a row, returns what tells its cell from others.
    columns : tuple of str
        What every row has.
    optional : tuple of str, default=()
        What some rows have besides.
    supersedes : bool, default=False
        Whether a row takes the place of an earlier one of the same cell. False: two rows of a
        cell are an error.
    numbers : tuple of str, default=()
        Columns that hold a number, or null where nothing was measured.

    Examples
    --------
    >>> from operator import itemgetter
    >>> from antibackdoor.benchmark import RowFormat
    >>> of = RowFormat(key=itemgetter("seed"), columns=("seed", "ca"), numbers=("ca",))
    >>> of.key({"seed": 0, "ca": 0.9})
    0
    """

    key: Callable[[Row], Hashable]
    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()
    supersedes: bool = False
    numbers: tuple[str, ...] = ()


#: Rows of `run_benchmark`.
TABLE_ROWS = RowFormat(
    key=lambda row: tuple(row[name] for name in _CELL),
    columns=(*_CELL, "source", "device", *MEASURES, "error", "commit", "versions", "machine"),
    # A cell that failed has no seconds; flags are counted where a defence has any.
    optional=("seconds", "traceback", "n_isolated", "n_poisoned", "p_value"),
    numbers=("poison_rate", *MEASURES),
)


def read_rows(path: str | Path, of: RowFormat = TABLE_ROWS) -> list[Row]:
    """Read a file of rows, a JSON object a line. No line is left out: a bad one is an error.

    Parameters
    ----------
    path : str or Path
        Such as the ``rows.jsonl`` of a table.
    of : RowFormat, default=TABLE_ROWS
        What its rows are like; by default those that `run_benchmark` makes.

    Returns
    -------
    list of dict
        In the order of the file.

    Raises
    ------
    ValueError
        If a line is no row: half a line, no JSON object, a column that is unknown or missing,
        another version of the package than in the first row, a cell that is there already. It
        names the file and the line, and says what was found and what is wanted.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> from operator import itemgetter
    >>> from pathlib import Path
    >>> from antibackdoor.benchmark import RowFormat, read_rows
    >>> written = Path("rows.jsonl").write_text('{"seed": 0, "ca": 0.9}')
    >>> read_rows("rows.jsonl", RowFormat(key=itemgetter("seed"), columns=("seed", "ca")))
    [{'seed': 0, 'ca': 0.9}]
    """
    *lines, last = Path(path).read_bytes().split(b"\n")
    lines = [line + b"\n" for line in lines] + ([last] if last else [])
    numbered = ((f"{path}, line {number}", line) for number, line in enumerate(lines, 1))
    return check_rows(((where, parse_row(line, where)) for where, line in numbered), of)


def parse_row(line: bytes, where: str) -> Any:
    """Return what a line of JSON holds.

    Parameters
    ----------
    line : bytes
        With its end, if it has one.
    where : str
        Names the line in errors.

    Raises
    ------
    ValueError
        If it is none, or an object that names a column twice.
    """
    try:
        return json.loads(line, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        found = "half a row, as a killed run leaves it" if is_half(line) else f"no JSON ({error})"
        text = line.decode("utf-8", "replace").rstrip("\n")
        text = text if len(text) <= 60 else text[:60] + "..."
        raise ValueError(f"{where}: {found}: {text!r}; wanted a JSON object.") from error


def is_half(line: bytes) -> bool:
    """Tell whether a line, with its end if it has one, is a row of which the end is missing."""
    if line.endswith(b"\n") or not line.startswith(b"{"):
        return False
    text = line.decode("utf-8", "replace")
    try:
        json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return True
    # A whole row, and perhaps something behind it.
    return False


def _without_repeats(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a column stands there twice")
    return row


def check_rows(rows: Iterable[tuple[str, Any]], of: RowFormat) -> list[Row]:
    """Return rows of one file or table, if each is what it must be.

    Parameters
    ----------
    rows : iterable of (str, object)
        Each with what names it in errors.

    Returns
    -------
    list of dict
        In their order; of those that supersede one another the last, in the place of the first.
    """
    kept: dict[Hashable, tuple[str, Row]] = {}
    version = None
    for number, (where, row) in enumerate(rows):
        check_row(row, of, where)
        # Of two versions the same column need not mean the same.
        version = check_version(row, where, version if number else _version(row))
        cell = _cell(row, of, where)
        if cell in kept and not of.supersedes:
            raise ValueError(
                f"{where}: a second row of the cell {cell!r}, which {kept[cell][0]} has too; "
                f"wanted one row a cell."
            )
        kept[cell] = where, row
    return [row for _, row in kept.values()]


def check_row(row: Any, of: RowFormat, where: str) -> None:
    """Refuse what is no row of a format.

    Parameters
    ----------
    where : str
        Names the row in errors.

    Raises
    ------
    ValueError
        If it is no object, or has other columns.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{where}: {_kind(row)}; wanted a JSON object.")
    missing = [name for name in of.columns if name not in row]
    unknown = [name for name in row if name not in (*of.columns, *of.optional)]
    if missing or unknown:
        found = [f"no column {name!r}" for name in missing]
        found += [f"an unknown column {name!r}" for name in unknown]
        wanted = f"wanted {', '.join(of.columns)}"
        if of.optional:
            wanted += f", and {', '.join(of.optional)} where there is something to say"
        raise ValueError(f"{where}: {', '.join(found)}, {_origin(row)}; {wanted}.")
    for name in of.numbers:
        value = row[name]
        if isinstance(value, bool) or not isinstance(value, (int, float, type(None))):
            raise ValueError(f"{where}: {name} is {value!r}; wanted a number, or null.")


def is_of_other_version(row: Any, wanted: str) -> bool:
    """Tell whether a row says that another version of the package made it."""
    return isinstance(row, dict) and _version(row) not in (None, wanted)


def check_version(row: Row, where: str, wanted: str | None) -> str | None:
    """Return the version of the package that made a row, if it is the one wanted.

    Parameters
    ----------
    where : str
        Names the row in errors.
    wanted : str or None
        None: rows that do not say.
    """
    version = _version(row)
    if version != wanted:
        raise ValueError(
            f"{where}: a row {_origin(row)}; wanted rows of antibackdoor {wanted}, for one table "
            f"is of one version. Move the others to a file or folder of their own."
        )
    return version


def _version(row: Row) -> str | None:
    versions = row.get("versions")
    return versions.get("antibackdoor") if isinstance(versions, dict) else None


def _origin(row: Row) -> str:
    return f"of antibackdoor {_version(row)}, commit {row.get('commit')}"


def _cell(row: Row, of: RowFormat, where: str) -> Hashable:
    cell = of.key(row)
    try:
        hash(cell)
    except TypeError:
        raise ValueError(
            f"{where}: a cell of {cell!r}; wanted texts and numbers to tell it by."
        ) from None
    return cell


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
