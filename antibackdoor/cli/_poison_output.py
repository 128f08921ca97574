"""The output of `poison`: checks, and replacing of an older copy."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from antibackdoor.cli._checks import expand, resolve
from antibackdoor.cli._output_lock import only_user
from antibackdoor.cli._staging import Staging, check_replaceable, listed
from antibackdoor.utils import safe_cell

#: Columns of the mask of a folder.
MASK_HEADS = ["file_name", "poisoned", "cover", "original_label", "original_name"]


def folder_mask(folder: Path) -> Path:
    """Return where the mask of a poisoned folder lies."""
    return folder.with_name(f"{folder.name}.mask.csv")


def npz_mask(file: Path) -> Path:
    """Return where the mask of a poisoned .npz lies."""
    return file.with_suffix(".mask.npy")


class PoisonOutput:
    """The copy of a command line, ``--out``, and the mask beside it.

    Parameters
    ----------
    path : path
        As it was given.
    is_folder : bool
        Whether the copy is a folder, and not an .npz.
    force : bool
        Whether to replace an earlier copy.
    """

    def __init__(self, path: Path, *, is_folder: bool, force: bool) -> None:
        self.path = expand("--out", path)
        self._is_folder, self._force = is_folder, force
        # A link is replaced, and what it leads to stays.
        self._place = resolve("--out", self.path.parent) / self.path.name
        names = [self._place.name, self._mask_of(self._place).name]
        foreign = foreign_to_copy if is_folder else _nothing_foreign
        self._staging = Staging(self._place.parent, names, foreign)

    @property
    def mask(self) -> Path:
        """Where the mask lies, for messages."""
        return self._mask_of(self.path)

    @property
    def stays(self) -> str:
        """What is left as it was, for messages: true at any time."""
        if self._staging.in_place:
            return f"the copy is whole: {str(self.path)!r}"
        if self._force and self._place.exists():
            return "nothing was written; the earlier copy is as it was"
        return "nothing was written"

    def check(self, data: Path) -> None:
        """Refuse what may not be written to."""
        if not self._is_folder and {data.suffix.lower(), self.path.suffix.lower()} != {".npz"}:
            raise ValueError(
                f"DATA {str(data)!r} --out {str(self.path)!r}; wanted two folders or two .npz "
                f"files."
            )
        out, source = resolve("--out", self.path), resolve("DATA", data)
        if out.is_relative_to(source) or source.is_relative_to(out):
            raise ValueError(f"--out {str(self.path)!r} and DATA {str(data)!r} lie in one another.")
        self._check_room()

    @contextmanager
    def opened(self, data: Path) -> Iterator[Path]:
        """Give a path to write the copy to, while no other command writes to its place.

        Raises
        ------
        ValueError
            If the place is in use, or may not be written to.
        OSError
            If nothing can be written there.
        """
        with only_user("--out", self._place):
            self._staging.recover()
            self.check(data)  # again, since it may have changed before we had the lock
            try:
                yield self._staging.new / self._place.name
            finally:
                self._staging.leave()

    def finish(self) -> None:
        """Put the complete copy and its mask in their places."""
        self._staging.put_in_place()

    def _mask_of(self, path: Path) -> Path:
        return folder_mask(path) if self._is_folder else npz_mask(path)

    def _check_room(self) -> None:
        """Refuse an existing output unless it may be replaced and this command wrote it."""
        out, mask = self._place, self._mask_of(self._place)
        is_empty = self._is_folder and out.is_dir() and not any(out.iterdir())
        there = [path for path in (out, mask) if path.exists() or path.is_symlink()]
        if not self._force:
            there = [path for path in there if not (is_empty and path == out)]
            if there:
                raise ValueError(
                    f"{str(there[0])!r} is there already; give another --out, or --force."
                )
            return
        if mask in there and not _is_mask(mask):
            raise ValueError(
                f"{str(mask)!r} is not replaced: it is no mask that this command has written; "
                f"move it elsewhere, or give another --out."
            )
        if out in there and not is_empty:
            if mask not in there or out.is_dir() != self._is_folder:
                raise ValueError(
                    f"--out {str(self.path)!r} is not replaced: without {mask.name} beside it, it "
                    f"was not written by this command; remove it yourself, or give another one."
                )
            if self._is_folder and (foreign := foreign_to_copy(out)):
                raise ValueError(
                    f"--out {str(self.path)!r} is not replaced: it holds what this command has not "
                    f"written ({listed(foreign)}). Move that elsewhere, or give another one."
                )
        if self._is_folder and out in there:
            check_replaceable("--out", out)


def foreign_to_copy(path: Path) -> list[str]:
    """Return the names of files in a poisoned folder that its mask does not list."""
    if path.is_symlink() or not path.is_dir():
        return []
    ours = set(_names(folder_mask(path)))
    foreign = []
    for folder, folders, files in os.walk(path):
        inside = Path(folder).relative_to(path)
        # Links to folders are not followed, and never ours.
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in [*files, *links]:
            relative = (inside / name).as_posix()
            if safe_cell(relative) not in ours:
                foreign.append(relative)
    return sorted(foreign)


def _nothing_foreign(path: Path) -> list[str]:
    return []


def _is_mask(path: Path) -> bool:
    """Return whether a file is a mask, by its first bytes."""
    start = b"\x93NUMPY" if path.suffix == ".npy" else ",".join(MASK_HEADS).encode()
    try:
        with path.open("rb") as file:
            return file.read(len(start)) == start
    except OSError:
        return False


def _names(mask: Path) -> list[str]:
    try:
        with mask.open(
            encoding="utf-8", errors=sys.getfilesystemencodeerrors(), newline=""
        ) as file:
            return [row["file_name"] or "" for row in csv.DictReader(file)]
    except (FileNotFoundError, csv.Error):
        return []
