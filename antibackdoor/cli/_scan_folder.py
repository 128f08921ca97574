"""The folder that a scan writes into."""

from __future__ import annotations

import re
from pathlib import Path

from antibackdoor.training._store import OWN_FILES

_PART = re.compile(r"\.?(report\.html|suspects\.csv|model\.safetensors)\..*part")
_RESULTS = ("report.html", "suspects.csv", "model.safetensors", "log.txt")

# The first line of a log, as `write_log` is given it.
_FIRST_LINE = re.compile(r"\d{4}-\d\d-\d\dT\S+ antibackdoor scan\b")


class ScanFolder:
    """The folder of results and checkpoints of a scan."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.report, self.suspects, self.model, self.log = (path / name for name in _RESULTS)
        self.checkpoints = path / "checkpoints"
        self._made = False
        self._log_size: int | None = None

    def make(self) -> None:
        """Create the folder if it does not exist."""
        self._made = not self.path.exists()
        self._log_size = self.log.stat().st_size if self.log.exists() else None
        self.checkpoints.mkdir(parents=True, exist_ok=True)

    def has_checkpoints(self) -> bool:
        """Return whether there is a scan to continue."""
        return self.checkpoints.is_dir() and any(
            OWN_FILES.fullmatch(path.name) and path.suffix == ".safetensors"
            for path in self.checkpoints.iterdir()
        )

    def finish(self) -> None:
        """Remove the checkpoints: the results are written."""
        self._remove_checkpoints()
        _remove_empty(self.checkpoints)

    def leave(self) -> None:
        """Remove the files of a scan that has no checkpoint yet."""
        if self.has_checkpoints():
            return
        self.finish()
        if self._log_size is None:
            self.log.unlink(missing_ok=True)
        if self._made:
            _remove_empty(self.path)

    def restore_log(self) -> None:
        """Remove this scan's lines from the log of the scan that it was to continue."""
        if self._log_size is not None:
            with self.log.open("r+b") as file:
                file.truncate(self._log_size)

    def write_log(self, lines: list[str]) -> None:
        """Add lines to the log."""
        with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(f"{line}\n" for line in lines)

    def _remove_checkpoints(self) -> None:
        """Remove our own files only."""
        if not self.checkpoints.is_dir():
            return
        for path in self.checkpoints.iterdir():
            if OWN_FILES.fullmatch(path.name):
                path.unlink(missing_ok=True)


def foreign_to_scan(folder: Path) -> list[str]:
    """Return the names of files in a folder that no scan has written.

    Without the log of a scan, files with the names of its results count as the user's own.
    """
    if not folder.is_dir():
        return [folder.name]
    names = {path.name for path in folder.iterdir()}
    ours = {name for name in names if name in _RESULTS or _PART.fullmatch(name)}
    foreign = names - ours - {"checkpoints"}
    if not _is_log(folder / "log.txt"):
        foreign |= ours
    checkpoints = folder / "checkpoints"
    if checkpoints.is_symlink() or (checkpoints.exists() and not checkpoints.is_dir()):
        foreign.add("checkpoints")
    elif checkpoints.is_dir():
        foreign |= {
            f"checkpoints/{path.name}"
            for path in checkpoints.iterdir()
            if not OWN_FILES.fullmatch(path.name)
        }
    return sorted(foreign)


def _is_log(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return _FIRST_LINE.match(file.readline(1000)) is not None
    except OSError:
        return False


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
