"""A copy of a folder without the images that a reviewer confirmed as poison."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from antibackdoor.inspection._decisions import as_cell, check_digest, file_digest, read_lines


def drop_confirmed(
    directory: str | os.PathLike[str],
    decisions: str | os.PathLike[str],
    out: str | os.PathLike[str],
) -> tuple[list[str], list[str]]:
    """Copy a folder of images without those that were confirmed as poison.

    All other files are copied unchanged. Links stay links.

    Parameters
    ----------
    directory : str or path
        The folder that the page of `write_report` was made of. Never changed.
    decisions : str or path
        The file that the page saved, decisions.csv.
    out : str or path
        Folder of the copy; it must not exist.

    Returns
    -------
    dropped : list of str
        Paths of the images left out, relative to the folder.
    undecided : list of str
        Flagged images without a decision. They are in the copy.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, FileExistsError
        If there is no such folder or file, or if `out` exists.
    ValueError
        If the decisions are incomplete, or about other images.
    OSError
        If a file cannot be read or written.

    See Also
    --------
    read_decisions : The decisions as masks, for data that is not a folder.

    Examples
    --------
    >>> from antibackdoor.inspection import drop_confirmed
    >>> dropped, undecided = drop_confirmed(
    ...     "photos", "decisions.csv", "photos-kept"
    ... )  # doctest: +SKIP
    """
    source, target = Path(directory).expanduser(), Path(out).expanduser()
    if not source.exists():
        raise FileNotFoundError(f"directory={str(directory)!r}: there is no such folder.")
    if not source.is_dir():
        raise NotADirectoryError(f"directory={str(directory)!r} is a file; wanted a folder.")
    if target.exists() or target.is_symlink():
        raise FileExistsError(f"out={str(out)!r} is there already; wanted a new folder.")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"out={str(out)!r} lies in the folder; wanted a place outside of it.")
    names = {as_cell(name): name for name in _names(source)}
    dropped, undecided = [], []
    for one in read_lines(decisions):
        name = None if one.file_name is None else names.get(one.file_name)
        if name is None:
            raise ValueError(
                f"{one.place}: there is no image {one.file_name!r} in {str(directory)!r}. These "
                f"are the decisions about other data, or it has been taken away since."
            )
        check_digest(one, file_digest(source / name))
        if one.is_confirmed:
            dropped.append(name)
        elif one.is_undecided:
            undecided.append(name)
    _copy(source, target, leave_out={source / name for name in dropped})
    return dropped, undecided


def _names(folder: Path) -> list[str]:
    return [
        (Path(root) / name).relative_to(folder).as_posix()
        for root, _, files in os.walk(folder)
        for name in files
    ]


def _copy(source: Path, target: Path, leave_out: set[Path]) -> None:
    def left_out(folder: str, entries: list[str]) -> list[str]:
        return [entry for entry in entries if Path(folder) / entry in leave_out]

    try:
        shutil.copytree(source, target, symlinks=True, ignore=left_out)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
