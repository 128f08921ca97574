"""A lock on an output, so that only one command writes to it at a time."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout, UnixFileLock

from antibackdoor.cli._signals import undisturbed

#: Name of the lock inside a folder, used if nothing can be written next to the folder.
LOCK_INSIDE = ".antibackdoor.lock"

# Errors of file systems without locks.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}

# A lock that is only a file holds the number of its process, and a second look shows whether that
# process still runs. A file without a number counts as abandoned after two seconds.
_LOOKS_FOR = 3.0


@contextmanager
def only_user(word: str, output: Path) -> Iterator[None]:
    """Let no other command write to an output within the block.

    The lock is a hidden file next to the output, or inside it if nothing can be written next to
    it. It is removed at the end, and the system frees it if the process is killed. On a file
    system without locks the file holds the number of the process; the lock of a dead process is
    ignored. Folders above the output are created, and removed if they stay empty.

    Parameters
    ----------
    word : str
        What the output was given as, for the message.
    output : Path
        Absolute. May be a file or folder, or not be there.
    """
    made = _make_folders(output.parent)
    try:
        path = _lock_path(output)
        lock = _acquire(path)
        if lock is None:
            raise ValueError(
                f"{word} {str(output)!r} is in use by another antibackdoor command; wait for its "
                f"end, or give another one. Nothing was changed."
            )
        try:
            yield
        finally:
            with undisturbed():
                # Before it is given back: whoever waits for it sees that it is gone, and makes
                # another. One of another kind is removed by its release.
                if isinstance(lock, UnixFileLock):
                    path.unlink(missing_ok=True)
                lock.release()
    finally:
        with undisturbed():
            for folder in made:
                _remove_empty(folder)


def _lock_path(output: Path) -> Path:
    if output.is_dir() and not os.access(output.parent, os.W_OK | os.X_OK):
        return output / LOCK_INSIDE
    return output.with_name(f".{output.name}.antibackdoor.lock")


def _acquire(path: Path) -> BaseFileLock | None:
    """Return a lock that is held, or None where another process holds it."""
    has_locks = _has_locks(path.parent)
    lock: BaseFileLock = FileLock(path) if has_locks else SoftFileLock(path)
    try:
        lock.acquire(timeout=0 if has_locks else _LOOKS_FOR)
    except Timeout:
        return None
    return lock


def _has_locks(folder: Path) -> bool:
    """Tell whether the file system of a folder can lock files."""
    if sys.platform == "win32":
        return True
    from fcntl import LOCK_EX, LOCK_NB, flock

    # On a file of its own: a lock that fails leaves its file, which would count as held then.
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            raise
    return True


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; return the ones made, the deepest first."""
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
