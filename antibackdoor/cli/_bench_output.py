"""The output folder of `bench`: rows and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from antibackdoor.benchmark import save_tradeoff, summarise, write_tables
from antibackdoor.cli._checks import expand, resolve
from antibackdoor.cli._output_lock import LOCK_INSIDE, only_user
from antibackdoor.cli._staging import Staging, listed

# Made by `run_benchmark` before the first cell runs.
_ROWS = "cells"
_TABLES = ("table.md", "rows.jsonl", "table.csv", "table.tex", "tradeoff.png")


class BenchOutput:
    """The folder of a command line, ``--out``.

    Parameters
    ----------
    path : path
        As it was given.
    """

    def __init__(self, path: Path) -> None:
        self.path = expand("--out", path)
        self._resolved = resolve("--out", path)
        self._staging = Staging(self._resolved, _TABLES)

    def check(self) -> None:
        """Refuse a folder with other files in it."""
        path = self._resolved
        if not path.exists():
            return
        if not path.is_dir():
            raise ValueError(f"--out {str(self.path)!r} is a file; wanted a folder.")
        held = sorted(inside.name for inside in path.iterdir() if inside.name != LOCK_INSIDE)
        if held and not (path / _ROWS).is_dir():
            raise ValueError(
                f"--out {str(self.path)!r} holds no rows of an earlier run, but other files "
                f"({listed(held)}); give another folder."
            )

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Let no other command write to the folder within the block.

        Raises
        ------
        ValueError
            If another one does, or it may not be written to.
        OSError
            If nothing can be written there.
        """
        with only_user("--out", self._resolved):
            if self._resolved.is_dir():
                self._staging.recover()
            self.check()  # again, since it may have changed before we had the lock
            try:
                yield
            finally:
                self._staging.leave()

    def write_tables(self, rows: Sequence[dict[str, Any]]) -> list[Path]:
        """Write all tables, or none: older ones are replaced when the new ones are complete.

        Parameters
        ----------
        rows : sequence of dict
            As `run_benchmark` returns them.
        """
        write_tables(rows, self._staging.new)
        save_tradeoff(summarise(rows), self._staging.new / "tradeoff.png")
        self._staging.put_in_place()
        return [self.path / name for name in _TABLES]
