"""Image files decoded into one array."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from antibackdoor.datasets._grey_depth import (
    depth_of,
    grey_levels,
    has_deep_colours,
    is_deep,
    is_signed,
    to_8_bits,
)

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow knows more: some take any bytes for an image of theirs, and EPS is a program that
# Ghostscript would run.
_FORMATS = (
    "AVIF",
    "BMP",
    "GIF",
    "ICO",
    "JPEG",
    "JPEG2000",
    "MPO",
    "PNG",
    "PPM",
    "TIFF",
    "WEBP",
)

_GREY = ("1", "L", "LA", "La")

# Orientations of EXIF that lay an image on its side.
_ON_ITS_SIDE = (5, 6, 7, 8)
_ORIENTATION = 0x0112

# Half of white: colours of 16 bits that never get there may use fewer.
_HALF = 128


class UnreadableImageError(ValueError):
    """A file that is no image, or one that cannot be used; the message says why."""


def decode_images(
    samples: Sequence[tuple[str, int]], image_size: int, *, depth: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Decode image files to RGB and resize them, whatever their proportions.

    Nothing is cut off, so that each image is seen whole.

    Parameters
    ----------
    samples : sequence of (str, int)
        Path and label of each image.
    image_size : int
        Height and width of every row.
    depth : int, default=None
        As `find_depth` returns it, of all parts of a data set. None: that of these.

    Returns
    -------
    X : ndarray of uint8, shape (n, image_size, image_size, 3)
    y : ndarray of int64, shape (n,)

    Raises
    ------
    ValueError
        If a file cannot be decoded.
    """
    # Filled row by row: a list of images beside it would double the memory.
    X = np.empty((len(samples), image_size, image_size, 3), dtype=np.uint8)
    if depth is None:
        depth = find_depth(Path(path) for path, _ in samples)
    for row, (path, _) in enumerate(samples):
        try:
            image, _ = read_image(Path(path), depth)
        except UnreadableImageError as error:
            raise ValueError(f"{path} cannot be decoded as an image: {error}") from error
        X[row] = fit_image(image.convert("RGB"), image_size, image_size, crop=False)
    return X, np.array([label for _, label in samples], dtype=np.int64)


def read_image(path: Path, depth: int | None = None) -> tuple[Image, list[str]]:
    """Decode an image file: upright, grey or RGB, 8 bits a channel.

    What shines through is put on white, and of several frames the first is taken.

    Parameters
    ----------
    path : Path
    depth : int, default=None
        Of grey levels of 16 bits or more: as `find_depth` returns it for the images that it
        belongs to. None: its own.

    Returns
    -------
    image : PIL.Image.Image
        Of mode ``"L"`` where the file holds grey alone, else ``"RGB"``.
    remarks : list of str
        What was left out of it or seemed wrong, though it could be decoded.

    Raises
    ------
    UnreadableImageError
        If it cannot be.
    """
    import PIL.Image
    from PIL import ImageOps

    with _opened(path) as (image, remarks):
        if getattr(image, "is_animated", False):
            remarks.append(f"only the first of its {image.n_frames} frames is used")
        may_be_dark = has_deep_colours(image)
        if is_signed(image):
            raise UnreadableImageError("its pixels are signed, of which white is not known")
        image.load()
        upright = ImageOps.exif_transpose(image)
        if is_deep(image.mode):
            levels, said = to_8_bits(image, upright, depth)
            remarks += said
            upright = PIL.Image.fromarray(levels)
        plain = _to_grey_or_rgb(upright)
        brightest = np.max(plain.getextrema())
        if may_be_dark and brightest < _HALF:
            remarks.append(
                f"its 16 bits a channel are read by their upper eight, which go up to {brightest} "
                f"of 255: if it uses fewer bits, it is too dark"
            )
    return plain, remarks


def find_depth(paths: Iterable[Path]) -> int | None:
    """Return how many bits the grey levels of a set of images use: the most of `find_depths`.

    Images of one set must have one white, or a bright one and a dark one would look alike.
    """
    return max(find_depths(paths).values(), default=None)


def find_depths(paths: Iterable[Path]) -> dict[Path, int]:
    """Return how many bits the grey levels use of each file that has more than 8; see `depth_of`.

    No other file is decoded, and those that cannot be are passed over.
    """
    depths = {}
    for path in paths:
        try:
            with _opened(path) as (image, _):
                if is_deep(image.mode):
                    depths[path] = depth_of(grey_levels(image))
        except UnreadableImageError:  # `read_image` says what is wrong with it
            continue
    return depths


def probe_image(path: Path) -> tuple[int, int, bool]:
    """Read the head of an image file, which is quicker than all of it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    height, width : int
        Of the upright image. PNG files, in which the orientation may stand behind the pixels,
        are taken to be upright.
    is_grey : bool

    Raises
    ------
    UnreadableImageError
        If there is no such head.
    """
    with _opened(path) as (image, _):
        width, height = image.size
        if image.format != "PNG" and image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE:
            width, height = height, width
        # Floats are skipped when they are decoded: they shall not make the others RGB.
        is_grey = image.mode in (*_GREY, "F") or is_deep(image.mode)
        return height, width, is_grey


def fit_image(image: Image, height: int, width: int, *, crop: bool) -> np.ndarray:
    """Resize an image, with antialiasing.

    Parameters
    ----------
    image : PIL.Image.Image
    height, width : int
        Wanted.
    crop : bool
        Whether to keep its proportions and cut off what stands over on two sides, or to
        squeeze all of it in.

    Returns
    -------
    ndarray of uint8, shape (height, width) or (height, width, 3)
    """
    from PIL import Image, ImageOps

    if image.size == (width, height):
        return np.asarray(image)
    method = Image.Resampling.BILINEAR
    if crop:
        # Cuts before it resizes: a strip of 1 x 50,000 pixels is never made larger.
        return np.asarray(ImageOps.fit(image, (width, height), method))
    return np.asarray(image.resize((width, height), method))


def to_row(image: Image, row_shape: tuple[int, ...], *, crop: bool) -> np.ndarray:
    """Bring an image to the size and the channels of a row.

    Parameters
    ----------
    image : PIL.Image.Image
    row_shape : tuple of int
        Height, width and channels: 1 for grey, 3 for RGB.
    crop : bool
        As in `fit_image`.

    Returns
    -------
    ndarray of uint8, shape row_shape
    """
    height, width, n_channels = row_shape
    plain = image.convert("L" if n_channels == 1 else "RGB")
    return fit_image(plain, height, width, crop=crop).reshape(row_shape)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, list[str]]]:
    """Open an image file, and turn all that is wrong with it into `UnreadableImageError`."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    known = [name for name in _FORMATS if name in Image.OPEN]
    remarks: list[str] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=known) as image:
                yield image, remarks
        except UnreadableImageError:
            raise
        except UnidentifiedImageError as error:
            raise UnreadableImageError(
                f"it is no image of a format that is read here ({', '.join(known)})"
            ) from error
        # Each of the decoders fails in ways of its own on damaged bytes, and new ones are found
        # with every version; whatever it was is in the message.
        except Exception as error:
            raise UnreadableImageError(f"{error or type(error).__name__}") from error
    remarks += [str(warning.message) for warning in warned]


def _to_grey_or_rgb(image: Image) -> Image:
    import PIL.Image

    if image.mode == "F":
        raise UnreadableImageError("its pixels are floats, of which white is not known")
    is_grey = image.mode in _GREY
    if image.has_transparency_data:
        white = PIL.Image.new("RGBA", image.size, "white")
        image = PIL.Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("L" if is_grey else "RGB")
