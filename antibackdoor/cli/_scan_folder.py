"""The folder that a scan writes into."""

from __future__ import annotations

import re
from pathlib import Path

# Of `cache_dir=`, and what a killed process had begun to write of them.
_CHECKPOINT = re.compile(r"checkpoint-\d+\.safetensors(\.\d+\.part)?")
_LOCK = "lock"


class ScanFolder:
    """Where results go, and what a scan goes on from.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()
        self.report = self.path / "report.html"
        self.suspects = self.path / "suspects.csv"
        self.model = self.path / "model.skops"
        self.log = self.path / "log.txt"
        self.checkpoints = self.path / "checkpoints"

    def check(self, data: Path, *, resume: bool, force: bool) -> None:
        """Refuse, before anything is read or written, what may not be written to.

        Parameters
        ----------
        data : Path
            A folder there must not lie in the data, where it would be a class folder.
        resume, force : bool

        Raises
        ------
        ValueError
        """
        where = f"--out {str(self.path)!r}"
        if data.is_dir() and self.path.resolve().is_relative_to(data.expanduser().resolve()):
            raise ValueError(f"{where} lies in the data; wanted a folder outside of it.")
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ValueError(f"{where} is a file; wanted a folder.")
        if force or not any(self.path.iterdir()):
            return
        if not resume:
            raise ValueError(
                f"{where} is there and not empty; give another one, --resume to go on with a scan "
                f"that was stopped, or --force to write over an older one."
            )
        if not self.checkpoints.is_dir():
            raise ValueError(
                f"{where} holds no checkpoints: no scan was stopped there. Give another one, or "
                f"--force to begin anew."
            )

    def make(self, *, resume: bool) -> None:
        """Make the folder, without checkpoints unless they are to be gone on from.

        Raises
        ------
        OSError
            If it cannot be made.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        if not resume:
            self._remove_checkpoints()
            for left in (self.report, self.suspects, self.model, self.log):
                left.unlink(missing_ok=True)

    def has_checkpoints(self) -> bool:
        """Tell whether there is something to go on from."""
        return self.checkpoints.is_dir() and any(
            _CHECKPOINT.fullmatch(path.name) for path in self.checkpoints.iterdir()
        )

    def finish(self) -> None:
        """Remove the checkpoints: the results are written."""
        self._remove_checkpoints()
        _remove_empty(self.checkpoints)

    def leave(self) -> None:
        """Leave nothing behind of a scan that had not come as far as a checkpoint."""
        if self.has_checkpoints():
            return
        self.finish()
        self.log.unlink(missing_ok=True)
        _remove_empty(self.path)

    def write_log(self, lines: list[str]) -> None:
        """Add lines to the log.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(f"{line}\n" for line in lines)

    def _remove_checkpoints(self) -> None:
        """Remove our own files: whatever else lies there is somebody's."""
        if not self.checkpoints.is_dir():
            return
        for path in self.checkpoints.iterdir():
            if _CHECKPOINT.fullmatch(path.name) or path.name == _LOCK:
                path.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
