"""Lists the image files of a folder and their classes."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Listing:
    """The files in a folder of class folders; nothing is decoded.

    Attributes
    ----------
    classes : list of str
        Names of the class folders, sorted.
    names : list of str
        Files that may be images, class by class: paths relative to the root, with ``/``.
    skipped : list of (str, str)
        Entries that cannot be used, and why.
    """

    root: Path
    classes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def class_of(name: str) -> str:
    """Return the class of a file, from its name in a `Listing`."""
    return name.partition("/")[0]


def list_image_files(directory: str | os.PathLike[str]) -> Listing:
    """List the files of a folder of class folders, subfolders included.

    Hidden files and folders, whose names begin with a dot, are ignored.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder.
    OSError
        If a folder cannot be read: a class must not be missed silently.
    """
    wanted = "wanted a folder that holds a folder of images for each class"
    root = Path(directory).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"directory={str(root)!r}: there is no such folder; {wanted}.")
    if not root.is_dir():
        raise NotADirectoryError(f"directory={str(root)!r} is no folder; {wanted}.")
    listing = Listing(root)
    for entry in _entries(root):
        if _is_link(entry) and _is_folder(entry):
            listing.skipped.append((entry.name, "it is a link to a folder"))
        elif _is_folder(entry):
            listing.classes.append(entry.name)
            _list_class(listing, entry.name)
        else:
            listing.skipped.append((entry.name, "it is in no class folder"))
    return listing


def _list_class(listing: Listing, class_name: str) -> None:
    inside = listing.root.resolve()
    left = [class_name]
    names = []
    while left:
        folder = left.pop()
        for entry in _entries(listing.root / folder):
            name = f"{folder}/{entry.name}"
            if _is_folder(entry) and not _is_link(entry):
                left.append(name)
                continue
            reason = _why_not(entry, inside)
            if reason is None:
                names.append(name)
            else:
                listing.skipped.append((name, reason))
    if not names:
        listing.skipped.append((f"{class_name}/", "no file in this class folder may be an image"))
    listing.names += sorted(names)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        visible = (entry for entry in entries if not entry.name.startswith("."))
        return sorted(visible, key=lambda entry: entry.name)


def _is_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() or getattr(entry, "is_junction", bool)()  # Windows' other links


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or a link without permission: `_why_not` reports it
        return False


def _why_not(entry: os.DirEntry[str], inside: Path) -> str | None:
    """Return why an entry that is not a folder cannot be an image; None if it can."""
    try:
        if _is_link(entry) and _is_folder(entry):
            return "it is a link to a folder"
        if _is_link(entry) and not Path(entry.path).resolve().is_relative_to(inside):
            return "it is a link that leads out of the folder"
        found = entry.stat()
    except FileNotFoundError:
        return "it is a link to nothing"
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself, before Python 3.13
        return str(error)
    # Reading a pipe would wait for ever.
    if not stat.S_ISREG(found.st_mode):
        return "it is no regular file"
    return "it is empty" if found.st_size == 0 else None
