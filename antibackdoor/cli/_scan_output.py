"""The output folder of a scan: checks, and replacing of older results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from antibackdoor.cli._checks import expand, resolve
from antibackdoor.cli._output_lock import LOCK_INSIDE, only_user
from antibackdoor.cli._scan_folder import ScanFolder, foreign_to_scan
from antibackdoor.cli._signals import undisturbed
from antibackdoor.cli._staging import Staging, check_replaceable, listed


class ScanOutput:
    """The folder of a command line, ``--out``.

    Parameters
    ----------
    path : path
        As it was given.
    resume, force : bool
        Whether to go on with the scan that was stopped there, or to replace its results.
    """

    def __init__(self, path: Path, *, resume: bool, force: bool) -> None:
        self.path = expand("--out", path)
        self._resolved = resolve("--out", path)
        self._resume, self._force = resume, force
        self._staging = Staging(self._resolved.parent, [self._resolved.name], foreign_to_scan)
        self._stays = "nothing was written"
        self._goes_on_here = False

    @property
    def where(self) -> str:
        """The word of the command line, for messages."""
        return f"--out {str(self.path)!r}"

    @property
    def is_finished(self) -> bool:
        """Whether the results are in their place."""
        return self._staging.in_place

    @property
    def stays(self) -> str:
        """What is left as it was, for messages: true at any time."""
        if self.is_finished:
            return f"the scan is finished, and its results are in {str(self.path)!r}"
        return self._stays

    def check(self, data: Path) -> None:
        """Refuse what may not be written to.

        Parameters
        ----------
        data : Path
            A folder there must not lie in the data, where it would be a class folder.
        """
        path = self._resolved
        source = resolve("DATA", data)
        if source.is_dir() and path.is_relative_to(source):
            raise ValueError(f"{self.where} lies in the data; wanted a folder outside of it.")
        if not path.exists():
            return
        if not path.is_dir():
            raise ValueError(f"{self.where} is a file; wanted a folder.")
        if not self._holds_anything() or self._resume:
            return
        if not self._force:
            raise ValueError(
                f"{self.where} is there and not empty; give another one, --resume to go on with a "
                f"scan that was stopped, or --force to replace the results of an older one."
            )
        if source.is_relative_to(path):
            raise ValueError(f"{self.where} holds the data, and is not replaced.")
        foreign = foreign_to_scan(path)
        if foreign:
            raise ValueError(
                f"{self.where} is not replaced: it holds what no scan has written "
                f"({listed(foreign)}). Move that elsewhere, or give another folder."
            )
        check_replaceable("--out", path)

    @contextmanager
    def opened(self, data: Path) -> Iterator[ScanFolder]:
        """Yield a folder to work in, which no other scan uses meanwhile.

        It is the folder of the command line. If that holds results, it is a folder next to it,
        which replaces it in `finish`.

        Raises
        ------
        ValueError
            If the folder is in use, or may not be written to.
        OSError
            If it cannot be made.
        """
        with only_user("--out", self._resolved):
            self._staging.recover(keep=self._goes_on)
            self.check(data)  # what was true before the lock was ours may not be so now
            folder = self._choose()
            try:
                yield folder
            except (TypeError, ValueError):
                folder.restore_log()
                raise
            finally:
                self._leave(folder)

    def finish(self, folder: ScanFolder) -> None:
        """Put the complete results in their place.

        Raises
        ------
        OSError
            If they cannot be moved. Everything needed to continue is kept.
        """
        with undisturbed():
            if folder.path != self._resolved:
                self._staging.put_in_place()
            self._staging.in_place = True
            ScanFolder(self._resolved).finish()

    def _choose(self) -> ScanFolder:
        """Return the folder to work in."""
        here = ScanFolder(self._resolved)
        if self._staging.is_begun or (self._force and self._holds_anything()):
            self._stays = f"the earlier results in {str(self.path)!r} are as they were"
            return ScanFolder(self._staging.new / self._resolved.name)
        if self._resume and here.checkpoints.is_dir():
            self._stays = f"what had been finished before is still in {str(self.path)!r}"
            self._goes_on_here = True
        elif self._resume and self._holds_anything():
            raise ValueError(
                f"{self.where} holds no checkpoints: no scan was stopped there. Give another one, "
                f"or --force to begin anew."
            )
        return here

    def _goes_on(self, new: Path) -> bool:
        return self._resume and ScanFolder(new / self._resolved.name).has_checkpoints()

    def _leave(self, folder: ScanFolder) -> None:
        with undisturbed():
            if self.is_finished or self._goes_on_here:
                return
            folder.leave()
            if not folder.has_checkpoints():
                self._staging.leave()

    def _holds_anything(self) -> bool:
        return self._resolved.is_dir() and any(
            name != LOCK_INSIDE for name in os.listdir(self._resolved)
        )
