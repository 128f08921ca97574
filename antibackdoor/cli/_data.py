"""Reading of a user's data as rows and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from antibackdoor.cli._checks import expand
from antibackdoor.cli._text import plural, printable
from antibackdoor.datasets import load_arrays, load_image_folder
from antibackdoor.utils import LazyRows

#: Larger images are made smaller unless asked otherwise: at 224 pixels the time is thirteen times
#: that at 64 (`benchmarks/costs.py`).
LARGEST_UNASKED = 64

# The largest size that is proposed.
_LARGEST_TOLD = 224

#: Width of a patch of 3 x 3 cells that is not blurred, in pixels of the size that is searched
#: (`benchmarks/photos.py`).
TRIGGER_PIXELS = 6

# Shorter lists are shown whole.
_MOST_SHOWN = 5

# Usual names of folders above the class folders. One usually trains on the first.
_TRAINED_ON = {"train", "training"}
_PARTS_OF_A_SET = _TRAINED_ON | {"test", "testing", "val", "valid", "validation", "dev"}


@dataclass(frozen=True, eq=False)
class Data:
    """Training images and their labels.

    Attributes
    ----------
    X : ndarray or LazyRows of shape (n, H, W), (n, H, W, C) or (n, C, H, W)
    y : ndarray of shape (n,)
    layout : str
        As for the classifiers.
    file_names : list of str or None
        None if the rows come from arrays.
    folder : Path or None
        Folder of the files.
    lines : list of str
        Lines to print about the data.
    notes : list of (str, str)
        Files that were skipped or changed, and why.
    """

    X: np.ndarray | LazyRows
    y: np.ndarray
    layout: Literal["auto", "channels_first", "channels_last"] = "channels_last"
    file_names: list[str] | None = None
    folder: Path | None = None
    lines: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def add_data(parser: Any) -> None:
    """Add the words for the data to a parser."""
    parser.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="a folder of class folders with images, an .npz file with X and y (or X_train and "
        "y_train), or two .npy files: images and labels",
    )


def find_data(paths: Sequence[str]) -> list[Path]:
    """Return the paths of a folder, of an .npz file or of two .npy files."""
    found = [expand("DATA", path) for path in paths]
    for path, given in zip(found, paths, strict=True):
        if not path.exists():
            raise FileNotFoundError(f"DATA {given!r}: there is no such folder or file.")
    is_folder = len(found) == 1 and found[0].is_dir()
    endings = [path.suffix.lower() for path in found]
    if not is_folder and endings not in ([".npz"], [".npy", ".npy"]):
        raise ValueError(
            f"DATA {' '.join(map(repr, paths))}; wanted one folder, one .npz file or two .npy "
            f"files."
        )
    return found


def read_data(paths: Sequence[str], *, size: int | None, crop: bool) -> Data:
    """Read a folder, an .npz file or two .npy files.

    Parameters
    ----------
    size : int or None
        As in `load_image_folder`.
    crop : bool
        Likewise.

    Raises
    ------
    ValueError
        If it is none of these, or holds nothing that can be scanned.
    FileNotFoundError
        If it is not there.
    OSError
        If it cannot be read.
    """
    first, *others = find_data(paths)
    if first.is_dir():
        return _read_folder(first, size, crop)
    if size is not None or not crop:
        raise ValueError("--size and --no-crop are for folders; arrays are used as they are.")
    arrays = load_arrays(first, *others)
    X, y = (arrays[name] if name in arrays else arrays[f"{name}_train"] for name in "Xy")
    if X.ndim == 2:
        raise ValueError(
            f"DATA {paths[0]!r} has rows of {X.shape[1]} features; wanted images, "
            f"(n, H, W), (n, H, W, C) or (n, C, H, W): nothing is searched in a table."
        )
    shape = " x ".join(map(str, X.shape[1:]))
    lines = [f"{len(X):,} images of {shape}, {X.dtype}, {len(np.unique(y)):,} classes"]
    return Data(X, y, layout="auto", lines=lines)


def counted(notes: Sequence[tuple[str, str]]) -> list[str]:
    """Return lines that tell some of the notes, and how many more there are."""
    lines = [f"  {printable(name)}: {printable(why)}" for name, why in notes[:_MOST_SHOWN]]
    if len(notes) > _MOST_SHOWN:
        lines.append(f"  and {len(notes) - _MOST_SHOWN:,} more")
    return lines


def _read_folder(folder: Path, size: int | None, crop: bool) -> Data:
    images = load_image_folder(folder, size=size, crop=crop, max_size=LARGEST_UNASKED)
    n_images, height, width, n_channels = images.X.shape
    colours = "grey" if n_channels == 1 else "RGB"
    classes = plural(len(np.unique(images.y)), "class", "classes")
    lines = [f"{n_images:,} images of {classes}, as {width} x {height} pixels, {colours}"]
    side, full = min(height, width), images.usual_side
    if size is None and side < full:
        closer = min(full, _LARGEST_TOLD)
        times = (closer / side) ** 2
        lines.append(
            f"the files have about {full} pixels a side: at this size a trigger less than about "
            f"{TRIGGER_PIXELS * full / side:.0f} of them wide may be missed; --size {closer} looks "
            f"closer, and takes about {times:.0f} times as long"
        )
    if images.n_cropped:
        of_them = plural(images.n_cropped, "of them has", "of them have")
        lines.append(
            f"{of_them} other proportions than {width} : {height}: their margins are cropped, and "
            f"not searched (--no-crop distorts the whole image to the size)"
        )
    if images.skipped:
        skipped = plural(len(images.skipped), "file or folder", "files or folders")
        lines += [f"{skipped} skipped:", *counted(images.skipped)]
    if images.remarks:
        remarks = plural(len(images.remarks), "remark", "remarks")
        lines += [f"{remarks} on files:", *counted(images.remarks)]
    lines += _parts_of_a_set(folder, np.unique(images.y).tolist())
    return Data(
        images.X,
        images.y,
        file_names=images.file_names,
        folder=folder,
        lines=lines,
        notes=[*images.skipped, *images.remarks],
    )


def _parts_of_a_set(folder: Path, classes: list[str]) -> list[str]:
    """Return a remark if classes are named like parts of a data set, such as train and test."""
    parts = [name for name in classes if name.lower() in _PARTS_OF_A_SET]
    if not parts:
        return []
    named = " and ".join(repr(name) for name in parts)
    taken = "is taken for the name of a class" if len(parts) == 1 else "are taken for class names"
    trained_on = [name for name in parts if name.lower() in _TRAINED_ON]
    such_as = f", such as {printable(folder / trained_on[0])}" if trained_on else ""
    return [
        f"{named} {taken}. If {printable(folder)} holds the parts of a data set, scan the part "
        f"that you train on{such_as}"
    ]
