"""Anyone's folder of images, as it comes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from statistics import median
from typing import Any

import numpy as np

from antibackdoor.datasets._dataset import listed
from antibackdoor.datasets._image_files import Listing, class_of, list_image_files
from antibackdoor.datasets._images import (
    UnreadableImageError,
    fit_image,
    probe_image,
    read_image,
)

# Sides that images of many sizes are brought to: those that networks are made for.
_SIDES = (32, 64, 96, 128, 224)

# A size that most images have is kept, up to this side.
_LONGEST_KEPT = 224


# eq=False: arrays have no single truth value, so a generated __eq__ could only raise.
@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of a folder, and what became of each of its files.

    Attributes
    ----------
    X : ndarray of uint8, shape (n, H, W, C)
        C is 1 where all files are grey, else 3.
    y : ndarray of str, shape (n,)
        Names of the class folders.
    file_names : list of str
        Of each row: from the folder on, with ``/`` between.
    skipped : list of (str, str)
        Files and folders that are not in X, and why.
    remarks : list of (str, str)
        Files that are in X, but not as they are: what was left out or seemed wrong.
    n_cropped : int
        Images that had other proportions and lost their margins on two sides.
    """

    X: np.ndarray
    y: np.ndarray
    file_names: list[str]
    skipped: list[tuple[str, str]]
    remarks: list[tuple[str, str]]
    n_cropped: int


def load_image_folder(
    directory: str | os.PathLike[str], *, size: int | None = None, crop: bool = True
) -> LabelledImages:
    """Load ``directory/CLASS/*.png``, whatever else lies there.

    All formats, modes and sizes are brought to one: EXIF's orientation is applied,
    transparency put on white, 16 bits become 8, all else RGB unless all images are grey.
    What is broken, no image, empty, larger than Pillow takes for safe, or a link that leads
    out of the folder is skipped and listed. Hidden files are not looked at. Folders within a
    class folder belong to the class. Of several frames the first is taken, and a remark made.

    Parameters
    ----------
    directory : str or path
        Folder of the class folders.
    size : int, default=None
        Height and width that images are brought to. None: the size that more than half of
        them have, if no side of it is longer than 224; else a square with a side of 32, 64,
        96, 128 or 224, whichever is nearest to the median of the images' shorter sides.
    crop : bool, default=True
        Whether an image of other proportions is resized by its shorter side and loses what
        stands over, the same on both sides, or is squeezed in whole. What is cut
        off is not seen by anybody: a trigger at an edge goes with it.

    Returns
    -------
    LabelledImages

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder.
    OSError
        If a folder in it cannot be read.
    ValueError
        If there are images of less than two classes, or `size` is out of range.
    TypeError
        If `size` is no whole number.

    Examples
    --------
    >>> from antibackdoor.datasets import load_image_folder
    >>> images = load_image_folder("photos")  # doctest: +SKIP
    >>> images.X.shape, images.skipped  # doctest: +SKIP
    """
    _check_size(size)
    listing = list_image_files(directory)
    skipped = listing.skipped
    names, heads = _probe(listing, skipped)
    if not names:
        raise ValueError(
            f"directory={str(directory)!r} holds no image in a class folder; wanted "
            f"CLASS/IMAGE.png of two classes or more.{_examples(skipped)}"
        )
    height, width = (size, size) if size is not None else _choose_size([head[:2] for head in heads])
    mode = "L" if all(is_grey for _, _, is_grey in heads) else "RGB"
    # Filled row by row: a list of images beside it would double the memory.
    X = np.empty((len(names), height, width, 1 if mode == "L" else 3), dtype=np.uint8)
    kept: list[str] = []
    remarks: list[tuple[str, str]] = []
    n_cropped = 0
    for name in names:
        try:
            image, said = read_image(listing.path(name))
        except UnreadableImageError as error:
            skipped.append((name, str(error)))
            continue
        pixels = fit_image(image.convert(mode), height, width, crop=crop)
        X[len(kept)] = pixels.reshape(X.shape[1:])
        kept.append(name)
        remarks += [(name, remark) for remark in said]
        n_cropped += crop and image.width * height != image.height * width
    y = np.array([class_of(name) for name in kept])
    _check_classes(directory, listing, y, skipped)
    return LabelledImages(X[: len(kept)], y, kept, sorted(skipped), remarks, n_cropped)


def _probe(
    listing: Listing, skipped: list[tuple[str, str]]
) -> tuple[list[str], list[tuple[int, int, bool]]]:
    """Return the files that begin as an image does, and what their heads say."""
    names, heads = [], []
    for name in listing.names:
        try:
            heads.append(probe_image(listing.path(name)))
        except UnreadableImageError as error:
            skipped.append((name, str(error)))
        else:
            names.append(name)
    return names, heads


def _choose_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return height and width, by the rule that `load_image_folder` tells."""
    ((commonest, count),) = Counter(sizes).most_common(1)
    if count > len(sizes) / 2 and max(commonest) <= _LONGEST_KEPT:
        return commonest
    middle = median(min(size) for size in sizes)
    side = min(_SIDES, key=lambda side: abs(side - middle))
    return side, side


def _check_size(size: Any) -> None:
    wanted = "wanted a whole number of pixels, 1 or more, or None"
    if size is None:
        return
    if not isinstance(size, Integral) or isinstance(size, bool):
        raise TypeError(f"size={size!r}; {wanted}.")
    if int(size) < 1:
        raise ValueError(f"size={size!r}; {wanted}.")


def _check_classes(
    directory: str | os.PathLike[str],
    listing: Listing,
    y: np.ndarray,
    skipped: list[tuple[str, str]],
) -> None:
    """Refuse less than two classes, and list those that have lost all their files."""
    present = np.unique(y).tolist()
    if len(present) < 2:
        held = f"usable images of one class, {present[0]!r}" if present else "no usable image"
        raise ValueError(
            f"directory={str(directory)!r} holds {held}; wanted images of two classes or more, a "
            f"folder for each.{_examples(skipped)}"
        )
    without_files = {name for name, _ in skipped}
    skipped += [
        (f"{name}/", "no image of this class folder could be used")
        for name in listing.classes
        if name not in present and f"{name}/" not in without_files
    ]


def _examples(skipped: list[tuple[str, str]]) -> str:
    if not skipped:
        return ""
    name, reason = skipped[0]
    return f" Skipped: {listed([name for name, _ in skipped])}; the first because {reason}."
