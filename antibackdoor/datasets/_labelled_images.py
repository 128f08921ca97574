"""Loaders of a folder of images: all in memory, or decoded on demand."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from antibackdoor.datasets._dataset import listed
from antibackdoor.datasets._folder_images import FolderImages
from antibackdoor.datasets._grey_depth import depth_remarks
from antibackdoor.datasets._image_files import Listing, class_of, list_image_files
from antibackdoor.datasets._images import (
    UnreadableImageError,
    find_depths,
    probe_image,
    read_image,
    to_row,
)
from antibackdoor.utils import LazyRows, check_count

# Sizes for folders with images of many sizes: those that networks are made for.
_SIDES = (32, 64, 96, 128, 224)


# eq=False: arrays have no single truth value, so a generated __eq__ could only raise.
@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and labels of a folder, with lists of skipped and changed files.

    `load_image_folder` and `open_image_folder` return one::

        images = load_image_folder("photos")
        clf = ABLClassifier().fit(images.X, images.y)
        images.skipped  # files that are not in X, and why

    Attributes
    ----------
    X : ndarray of uint8, shape (n, H, W, C), or LazyRows of the same
        The images. C is 1 if all files are grey, else 3.
    y : ndarray of str, shape (n,)
        Names of the class folders.
    file_names : list of str
        File of each row: its path relative to the folder, with ``/``.
    skipped : list of (str, str)
        Files and folders that are not in X, and why.
    remarks : list of (str, str)
        Files that are in X, but changed: what was left out or looked wrong.
    n_cropped : int
        Number of images with other proportions, which were cropped on two sides.
    usual_side : int
        Median of the shorter sides of the files, in pixels.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from antibackdoor.datasets import LabelledImages, load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat/1.png", "dog/1.png"):
    ...         Path(folder, name).parent.mkdir()
    ...         Image.new("L", (8, 8)).save(Path(folder, name))
    ...     images = load_image_folder(folder)
    >>> isinstance(images, LabelledImages), images.X.shape, images.file_names
    (True, (2, 8, 8, 1), ['cat/1.png', 'dog/1.png'])
    """

    X: np.ndarray | LazyRows
    y: np.ndarray
    file_names: list[str]
    skipped: list[tuple[str, str]]
    remarks: list[tuple[str, str]]
    n_cropped: int
    usual_side: int


def load_image_folder(
    directory: str | os.PathLike[str],
    *,
    size: int | None = None,
    crop: bool = True,
    max_size: int = 224,
) -> LabelledImages:
    """Load the images of class folders, ``directory/CLASS/*.png``, into one array.

    All images get one format and size. EXIF orientation is applied, transparent parts become
    white, 16 bits become 8. Images become RGB unless all of them are grey.

    Grey files of 16 bits or more may use only a part of the bits. So white is 255, 1,023, 4,095,
    16,383 or 65,535: the smallest of these that no pixel of all those files exceeds. A remark
    names it if it is not 65,535.
    What is broken, no image, empty, larger than Pillow takes for safe, or a link that leads
    out of the folder is skipped and listed. Hidden files are not looked at. Folders within a
    class folder belong to the class. Of several frames the first is taken, and a remark made.

    Parameters
    ----------
    directory : str or path
        Folder of the class folders.
    size : int, default=None
        Height and width of the rows. None: the size of more than half of the images, if no side
        of it is longer than `max_size`. Otherwise a square with a side of 32, 64, 96, 128 or 224,
        at most `max_size`, whichever is nearest to the median of the images' shorter sides.
    crop : bool, default=True
        For images of other proportions. True: resize by the shorter side and crop both margins
        equally; a trigger at an edge is lost with them. False: distort the whole image to the
        size.
    max_size : int, default=224
        Longest side if `size` is None.

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
        If there are images of less than two classes, or `size` or `max_size` is out of range, or
        the rows take more memory than this machine has.
    TypeError
        If `size` or `max_size` is no whole number.

    Examples
    --------
    >>> from antibackdoor.datasets import load_image_folder
    >>> images = load_image_folder("photos")  # doctest: +SKIP
    >>> images.X.shape, images.skipped  # doctest: +SKIP
    """
    plan = _plan(directory, size, max_size)
    _check_memory(plan)
    # Filled row by row: a list of images beside it would double the memory.
    X = np.empty((len(plan.names), *plan.row_shape), dtype=np.uint8)
    kept: list[str] = []
    remarks: list[tuple[str, str]] = []
    n_cropped = 0
    for name in plan.names:
        try:
            image, said = read_image(plan.listing.root / name, plan.depth)
        except UnreadableImageError as error:
            plan.skipped.append((name, str(error)))
            continue
        X[len(kept)] = to_row(image, plan.row_shape, crop=crop)
        kept.append(name)
        remarks += [(name, remark) for remark in said]
        n_cropped += crop and _loses_margins(image.height, image.width, plan.row_shape)
    y = np.array([class_of(name) for name in kept])
    _check_classes(directory, plan.listing, y)
    return LabelledImages(
        X[: len(kept)], y, kept, sorted(plan.skipped), remarks, n_cropped, _usual_side(plan.sizes)
    )


def open_image_folder(
    directory: str | os.PathLike[str],
    *,
    size: int | None = None,
    crop: bool = True,
    max_size: int = 224,
    n_jobs: int | None = None,
) -> LabelledImages:
    """Open the images of class folders, ``directory/CLASS/*.png``, and decode them on demand.

    This is `load_image_folder` for more images than memory holds. `X` of the result is a
    `LazyRows`, which classifiers accept like an array.

    Only the headers of the files are read here. (Grey files of 16 bits or more are decoded, to
    find their value of white.) So a file that is damaged after its header is not skipped: it ends
    the fit with an error that names it.

    Parameters
    ----------
    directory : str or path
        Folder of the class folders. Its files must stay as they are.
    size, crop, max_size
        As in `load_image_folder`.
    n_jobs : int, default=None
        Number of processes that decode images ahead, in training and prediction. None and 1: no
        extra process. -1: one for each processor.

    Returns
    -------
    LabelledImages
        Its remarks cover grey files of 16 bits or more only. `n_cropped` is counted from the
        headers.

    Raises
    ------
    OSError, ValueError, TypeError
        As `load_image_folder`, but for the memory that the rows take.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier
    >>> from antibackdoor.datasets import open_image_folder
    >>> images = open_image_folder("photos", n_jobs=4)  # doctest: +SKIP
    >>> ABLClassifier().fit(images.X, images.y)  # doctest: +SKIP
    """
    plan = _plan(directory, size, max_size)
    y = np.array([class_of(name) for name in plan.names])
    _check_classes(directory, plan.listing, y)
    X = FolderImages(
        plan.listing.root, plan.names, plan.row_shape, plan.depth, crop=crop, n_jobs=n_jobs
    )
    n_cropped = sum(
        crop and _loses_margins(height, width, plan.row_shape) for height, width in plan.sizes
    )
    return LabelledImages(
        X, y, plan.names, sorted(plan.skipped), plan.remarks, n_cropped, _usual_side(plan.sizes)
    )


@dataclass(frozen=True)
class _Plan:
    """The files to decode and the shape of the rows; nothing is decoded yet."""

    listing: Listing
    names: list[str]
    #: Height and width of each file, from its header.
    sizes: list[tuple[int, int]]
    row_shape: tuple[int, int, int]
    #: Bits that grey levels use, by file name, for files with more than 8.
    depths: dict[str, int]

    @property
    def depth(self) -> int | None:
        return max(self.depths.values(), default=None)

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """Remarks that are known before decoding."""
        return [
            (name, remark)
            for name, own in self.depths.items()
            for remark in depth_remarks(own, max(self.depths.values()))
        ]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        return self.listing.skipped


def _plan(directory: str | os.PathLike[str], size: int | None, max_size: int) -> _Plan:
    wanted = "wanted a whole number of pixels, 1 or more"
    check_count("max_size", max_size, wanted)
    if size is not None:
        check_count("size", size, f"{wanted}, or None")
    listing = list_image_files(directory)
    names, heads = _probe(listing)
    if not names:
        raise ValueError(
            f"directory={str(directory)!r} holds no image in a class folder; wanted "
            f"CLASS/IMAGE.png of two classes or more.{_examples(listing.skipped)}"
        )
    sizes = [(height, width) for height, width, _ in heads]
    height, width = (int(size), int(size)) if size is not None else _choose_size(sizes, max_size)
    n_channels = 1 if all(is_grey for _, _, is_grey in heads) else 3
    found = find_depths(listing.root / name for name in names)
    depths = {name: found[listing.root / name] for name in names if listing.root / name in found}
    return _Plan(listing, names, sizes, (height, width, n_channels), depths)


def _loses_margins(height: int, width: int, row_shape: tuple[int, int, int]) -> bool:
    """Return whether an image has other proportions than the rows."""
    return width * row_shape[0] != height * row_shape[1]


def _probe(listing: Listing) -> tuple[list[str], list[tuple[int, int, bool]]]:
    """Return the files with a valid image header, and what the headers say."""
    names, heads = [], []
    for name in listing.names:
        try:
            heads.append(probe_image(listing.root / name))
        except UnreadableImageError as error:
            listing.skipped.append((name, str(error)))
        else:
            names.append(name)
    return names, heads


def _choose_size(sizes: Sequence[tuple[int, int]], max_size: int) -> tuple[int, int]:
    """Return height and width by the rule in `load_image_folder`."""
    usual, count = Counter(sizes).most_common(1)[0]
    if count > len(sizes) / 2 and max(usual) <= max_size:
        return usual
    middle = _usual_side(sizes)
    allowed = [side for side in _SIDES if side <= max_size] or [max_size]
    side = min(allowed, key=lambda side: abs(side - middle))
    return side, side


def _usual_side(sizes: Sequence[tuple[int, int]]) -> int:
    """Return the median of the shorter sides."""
    return round(median(min(size) for size in sizes))


def _check_memory(plan: _Plan) -> None:
    """Refuse rows that do not fit: some systems promise any memory, and end who uses it."""
    height, width, n_channels = plan.row_shape
    needed = len(plan.names) * height * width * n_channels
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # a system that does not tell
        return
    if 0 < there < needed:  # -1: it does not know
        raise ValueError(
            f"size={height}: {len(plan.names):,} images of {width} x {height} pixels take "
            f"{needed / 1e9:,.0f} GB of memory, and this machine has {there / 1e9:,.0f}. Wanted a "
            f"smaller size, or open_image_folder, which decodes them batch by batch."
        )


def _check_classes(directory: str | os.PathLike[str], listing: Listing, y: np.ndarray) -> None:
    """Refuse less than two classes, and list the classes without usable files."""
    skipped = listing.skipped
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
