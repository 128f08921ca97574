"""Files that are written completely or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

#: Of a file that is being written: ``NAME.NUMBER.part``.
_PART = re.compile(r".*\.[0-9]+\.part", re.DOTALL)
#: Of a name, in the name of its part: a file's name has 255 bytes at most, a sign up to four.
_LENGTH = 50


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all, even if the machine stops meanwhile.

    Several threads and processes may write one path at the same time: the last complete file
    stays. A symbolic link at the path is replaced, not followed.

    Parameters
    ----------
    path : Path
        An existing file keeps its mode; a new one gets that of `open`.
    content : str or bytes

    Raises
    ------
    OSError
        If it cannot be written, or the path is not a file. An existing file stays then.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from antibackdoor.utils import write_whole
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder, "table.md"), "| a |")
    ...     Path(folder, "table.md").read_text()
    '| a |'
    """
    data = content.encode() if isinstance(content, str) else content
    mode = _mode_at(path)
    part, number = _begin_part(path, mode)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if sys.platform != "win32":
                part.replace(path)  # while the lock still tells that it is being written
        if sys.platform == "win32":
            part.replace(path)  # which does not move what is open
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def remove_abandoned(folder: Path) -> None:
    """Remove incomplete files of killed processes, but no file that is being written.

    A writer holds a lock, which ends with its process. On a file system without locks nothing is
    removed.

    Parameters
    ----------
    folder : Path
        Folder that `write_whole` writes to.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from antibackdoor.utils import remove_abandoned
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     remove_abandoned(Path(folder))
    """
    if sys.platform == "win32":
        return
    for part in folder.iterdir():
        if not _PART.fullmatch(part.name):
            continue
        try:
            # For writing: over NFS only that can be locked. Neither a link nor a pipe is ours.
            number = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue  # finished meanwhile, or not ours
        try:
            if stat.S_ISREG(os.fstat(number).st_mode) and _lock(number):
                part.unlink(missing_ok=True)
        finally:
            os.close(number)


def _mode_at(path: Path) -> int | None:
    """Return the mode of the file at a path, None where there is none to keep."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder is there, wanted a file", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "a device or a pipe is there, wanted a file", str(path))
    if path.is_symlink() or not path.exists():
        return None
    return stat.S_IMODE(path.stat().st_mode) & 0o777


def _begin_part(path: Path, mode: int | None) -> tuple[Path, int]:
    """Make a file of a new name beside the path, open and locked until it is closed."""
    # Made here, so that nothing planted under that name is written to or followed.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        part = path.with_name(f"{path.name[:_LENGTH]}.{secrets.randbelow(10**20)}.part")
        number = os.open(part, flags, 0o666 if mode is None else mode)
        if sys.platform == "win32":
            return part, number
        try:
            if mode is not None and stat.S_IMODE(os.fstat(number).st_mode) != mode:
                os.fchmod(number, mode)  # what the umask took
            ours = _lock(number) is not False and os.fstat(number).st_nlink > 0
        except BaseException:
            os.close(number)
            part.unlink(missing_ok=True)
            raise
        if ours:
            return part, number
        # `remove_abandoned` of somebody else came in between.
        os.close(number)
        part.unlink(missing_ok=True)


if sys.platform != "win32":

    def _lock(number: int) -> bool | None:
        """Lock an open file; False where another has it, None where there are no locks."""
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            return None
        return True


def _sync_folder(folder: Path) -> None:
    """Let a new name outlive a power cut, where the file system can promise that."""
    if sys.platform == "win32":
        return
    # The file is in its place, whole, whatever is said of its folder: nothing is to be undone.
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
