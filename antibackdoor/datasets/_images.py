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

# Pillow knows more formats. Some of them accept any bytes, and EPS is a program that Ghostscript
# would run.
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

# EXIF orientations that swap height and width.
_ON_ITS_SIDE = (5, 6, 7, 8)
_ORIENTATION = 0x0112

# Half of white: 16-bit colours that never reach it may use fewer bits.
_HALF = 128


class UnreadableImageError(ValueError):
    """A file is not an image, or not a usable one; the message says why."""


def decode_images(
    samples: Sequence[tuple[str, int]], image_size: int, *, depth: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Decode image files to RGB and resize them, without keeping their proportions.

    Nothing is cropped.

    Parameters
    ----------
    samples : sequence of (str, int)
        Path and label of each image.
    image_size : int
        Height and width of every row.
    depth : int, default=None
        Result of `find_depth` for all parts of a data set. None: that of these files.

    Returns
    -------
    X : ndarray of uint8, shape (n, image_size, image_size, 3)
    y : ndarray of int64, shape (n,)
    """
    # Filled row by row, since a list of images would double the memory.
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

    Transparent parts become white. Of several frames the first is taken.

    Parameters
    ----------
    depth : int, default=None
        For grey levels of 16 bits or more: result of `find_depth` for all images of its folder.
        None: its own.

    Returns
    -------
    image : PIL.Image.Image
        Of mode ``"L"`` if the file is grey, else ``"RGB"``.
    remarks : list of str
        What was left out or looked wrong, although the file could be decoded.

    Raises
    ------
    UnreadableImageError
        If it cannot be decoded.
    """
    import PIL.Image
    from PIL import ImageOps

    with _opened(path) as (image, remarks):
        if getattr(image, "is_animated", False):
            remarks.append(f"only the first of its {image.n_frames} frames is used")
        may_be_dark = has_deep_colours(image)
        if is_signed(image):
            raise UnreadableImageError("its pixels are signed; which value is white is not known")
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
                f"of its 16 bits a channel the upper eight are read, which go up to {brightest} of "
                f"255: if it uses fewer bits, it is too dark"
            )
    return plain, remarks


def find_depth(paths: Iterable[Path]) -> int | None:
    """Return how many bits the grey levels of a set of images use: the largest of `find_depths`.

    All images of a set must have one value of white; otherwise bright and dark images would look
    alike.
    """
    return max(find_depths(paths).values(), default=None)


def find_depths(paths: Iterable[Path]) -> dict[Path, int]:
    """Return how many bits the grey levels use, for each file with more than 8; see `depth_of`.

    Other files are not decoded, and broken ones are ignored.
    """
    depths = {}
    for path in paths:
        try:
            with _opened(path) as (image, _):
                if is_deep(image.mode):
                    depths[path] = depth_of(grey_levels(image))
        except UnreadableImageError:  # `read_image` reports it
            continue
    return depths


def probe_image(path: Path) -> tuple[int, int, bool]:
    """Read only the header of an image file, which is fast.

    Returns
    -------
    height, width : int
        Size of the upright image. PNG files may store the orientation after the pixels, and are
        assumed to be upright.

    Raises
    ------
    UnreadableImageError
        If there is no valid header.
    """
    with _opened(path) as (image, _):
        width, height = image.size
        if image.format != "PNG" and image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE:
            width, height = height, width
        # Float images are skipped when decoded: they must not make the others RGB.
        is_grey = image.mode in (*_GREY, "F") or is_deep(image.mode)
        return height, width, is_grey


def fit_image(image: Image, height: int, width: int, *, crop: bool) -> np.ndarray:
    """Resize an image, with antialiasing.

    Parameters
    ----------
    height, width : int
        Wanted size.
    crop : bool
        True: keep the proportions and crop two opposite margins. False: distort the whole image
        to the size.

    Returns
    -------
    ndarray of uint8, shape (height, width) or (height, width, 3)
    """
    from PIL import Image, ImageOps

    if image.size == (width, height):
        return np.asarray(image)
    method = Image.Resampling.BILINEAR
    if crop:
        # It crops before it resizes, so that a strip of 1 x 50,000 pixels is never enlarged.
        return np.asarray(ImageOps.fit(image, (width, height), method))
    return np.asarray(image.resize((width, height), method))


def to_row(image: Image, row_shape: tuple[int, ...], *, crop: bool) -> np.ndarray:
    """Convert an image to the size and the channels of a row.

    Parameters
    ----------
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
    """Open an image file, and turn every error of it into `UnreadableImageError`."""
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
        # On damaged bytes each decoder raises errors of its own, and they change with versions. The
        # message has the error.
        except Exception as error:
            raise UnreadableImageError(f"{error or type(error).__name__}") from error
    remarks += [str(warning.message) for warning in warned]


def _to_grey_or_rgb(image: Image) -> Image:
    import PIL.Image

    if image.mode == "F":
        raise UnreadableImageError("its pixels are floats; which value is white is not known")
    is_grey = image.mode in _GREY
    if image.has_transparency_data:
        white = PIL.Image.new("RGBA", image.size, "white")
        image = PIL.Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("L" if is_grey else "RGB")
