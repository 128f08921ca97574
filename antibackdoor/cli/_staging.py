"""Building new results next to the old ones, which they replace when complete."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from antibackdoor.cli._signals import undisturbed
from antibackdoor.cli._text import note, printable

_NOTE = "README.txt"
_TEXT = (
    "antibackdoor builds a new result here, and takes it out when it is whole. If no such process "
    "runs, a command that writes the same result anew puts this folder away.\n"
)


class Staging:
    """A hidden folder beside a result, in which its successor is built.

    Use it only with the lock of the result (`only_user`). Then an existing staging folder belongs
    to a process that was killed.

    Parameters
    ----------
    parent : Path
        Where the result lies: of the same file system, so that it is moved by its name alone.
    names : sequence of str
        Files and folders of the result in `parent`. They change places together.
    foreign : callable
        Takes a folder or file of an older result, and returns the names of files in it that the
        command does not write.
    """

    def __init__(
        self,
        parent: Path,
        names: Sequence[str],
        foreign: Callable[[Path], list[str]] = lambda path: [],
    ) -> None:
        self.parent = parent
        self.names = names
        self.in_place = False
        self._foreign = foreign
        self._prefix = f".{names[0]}.antibackdoor-"
        self._folder: Path | None = None

    @property
    def new(self) -> Path:
        """Folder to build in, made when it is first asked for."""
        if self._folder is None:
            with undisturbed():
                self._folder = Path(tempfile.mkdtemp(dir=self.parent, prefix=self._prefix))
                (self._folder / _NOTE).write_text(_TEXT, encoding="utf-8")
                (self._folder / "new").mkdir()
        return self._folder / "new"

    @property
    def is_begun(self) -> bool:
        """Whether anything has been built, by this process or by one that it goes on with."""
        return self._folder is not None

    def recover(self, *, keep: Callable[[Path], bool] = lambda new: False) -> None:
        """Remove the leftovers of killed processes, or finish what they had nearly finished.

        Parameters
        ----------
        keep : callable
            Takes the folder of a killed process, and returns whether to continue in it.
        """
        for folder in sorted(self.parent.glob(f"{_escaped(self._prefix)}*")):
            if not self._is_ours(folder):
                continue
            if (folder / "old").is_dir():
                with undisturbed():
                    self._forward(folder)
                    self._discard(folder)
                note(
                    f"a run that was killed while it put its results in place had finished them; "
                    f"they are in place now: {self._names()}"
                )
            elif self._folder is None and keep(folder / "new"):
                self._folder = folder
            else:
                shutil.rmtree(folder)
                note(f"removed what a killed run had left: {printable(folder)}")

    def put_in_place(self) -> None:
        """Let the new result take the place of the old one, which is removed then.

        Raises
        ------
        OSError
            If it cannot be moved. The old result is in its place then.
        """
        folder = self.new.parent
        with undisturbed():
            (folder / "old").mkdir()
            built = [name for name in self.names if _is_there(folder / "new" / name)]
            try:
                self._forward(folder)
            except BaseException:
                self._back(folder, built)
                raise
            self.in_place = True
            self._discard(folder)
            self._folder = None

    def leave(self) -> None:
        """Remove what was built and has not been put in place."""
        if self._folder is not None:
            with undisturbed():
                shutil.rmtree(self._folder)
                self._folder = None

    def _forward(self, folder: Path) -> None:
        """Move the old result out and the new one in; what has been moved already stays."""
        for name in self.names:
            new, path = folder / "new" / name, self.parent / name
            if _is_there(new):
                if _is_there(path):
                    path.rename(folder / "old" / name)
                new.rename(path)

    def _back(self, folder: Path, built: list[str]) -> None:
        """Undo as much of `_forward` as has been done."""
        for name in built:
            new, old, path = folder / "new" / name, folder / "old" / name, self.parent / name
            if not _is_there(new) and _is_there(path):
                path.rename(new)
            if _is_there(old):
                old.rename(path)
        (folder / "old").rmdir()

    def _discard(self, folder: Path) -> None:
        """Remove a staging folder, but keep what somebody has put into the old result meanwhile."""
        for name in self.names:
            old = folder / "old" / name
            if not _is_there(old) or not (left := self._foreign(old)):
                continue
            kept = _unused(self.parent / f"{name}.old")
            old.rename(kept)
            note(
                f"the older result holds what no command of antibackdoor has written "
                f"({listed(left)}); it is kept: {printable(kept)}"
            )
        shutil.rmtree(folder)

    def _is_ours(self, folder: Path) -> bool:
        """Tell whether a folder of such a name was made by this class."""
        made = re.fullmatch(r"[a-z0-9_]{8}", folder.name.removeprefix(self._prefix))
        if not made or folder.is_symlink() or not folder.is_dir():
            return False
        try:
            # Empty where it was killed at once.
            return not any(folder.iterdir()) or (folder / _NOTE).read_bytes() == _TEXT.encode()
        except OSError:
            return False

    def _names(self) -> str:
        return ", ".join(printable(self.parent / name) for name in self.names)


def check_replaceable(word: str, path: Path) -> None:
    """See that a folder can be moved out of the way of a newer one."""
    if path.is_mount():
        raise ValueError(
            f"{word} {str(path)!r} is where a file system is mounted, and cannot be replaced as a "
            f"whole. Give a folder in it."
        )
    if Path.cwd().is_relative_to(path):
        raise ValueError(
            f"{word} {str(path)!r} is the folder that you are in, or one above it, and is not "
            f"replaced. Go to another one first."
        )


def listed(names: Sequence[str]) -> str:
    """Return some of the names, and how many more there are."""
    shown = ", ".join(printable(name) for name in names[:5])
    return shown + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _unused(path: Path) -> Path:
    number = 1
    unused = path
    while _is_there(unused):
        number += 1
        unused = path.with_name(f"{path.name}{number}")
    return unused


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
