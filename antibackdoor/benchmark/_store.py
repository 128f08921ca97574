"""Finished cells, one file each: written whole or not at all."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from antibackdoor.benchmark._cells import Cell
from antibackdoor.benchmark._rows import (
    TABLE_ROWS,
    check_row,
    check_version,
    is_of_other_version,
    parse_row,
)
from antibackdoor.utils import remove_abandoned, write_whole


class Store:
    """A directory of rows.

    Parameters
    ----------
    directory : str or Path
        Made if it is not there.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._rows = self.directory / "cells"

    def prepare(self) -> None:
        """Make the directory, and see that it can be written to."""
        self._rows.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self._rows)
        with tempfile.TemporaryFile(dir=self._rows):
            pass

    def read(self, cell: Cell) -> dict[str, Any] | None:
        """Return the row of a cell, or None where it is not finished or, with a warning, damaged.

        Raises
        ------
        ValueError
            If another version of the package made it. It may be hours of work, so it is not
            written over.
        """
        path = self._path(cell)
        try:
            row = parse_row(path.read_bytes(), str(path))
            # Another version may have other columns: that is asked first, below.
            of_other = is_of_other_version(row, version("antibackdoor"))
            if not of_other:
                check_row(row, TABLE_ROWS, str(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            warnings.warn(f"{path} cannot be read ({error}); the cell runs again.", stacklevel=2)
            return None
        if of_other:
            check_version(row, str(path), version("antibackdoor"))
        if any(row[name] != value for name, value in asdict(cell).items()):
            warnings.warn(f"{path} is not the row of {cell}; the cell runs again.", stacklevel=2)
            return None
        return row

    def finished(self, cell: Cell, source: str) -> bool:
        """Tell whether a cell has been measured on this data: one that failed has not."""
        row = self.read(cell)
        return row is not None and row["error"] is None and row["source"] == source

    def write(self, cell: Cell, row: dict[str, Any]) -> None:
        """Keep the row of a cell, which takes the place of an older one.

        Raises
        ------
        OSError
            If it cannot be written. An older row is as it was then.
        """
        write_whole(self._path(cell), json.dumps(row) + "\n")

    def rows(self, cells: Iterable[Cell]) -> list[dict[str, Any]]:
        """Return the rows of these cells that are there, failed ones among them, in order."""
        found = (self.read(cell) for cell in cells)
        return [row for row in found if row is not None]

    def _path(self, cell: Cell) -> Path:
        return self._rows / f"{cell.key}.json"
