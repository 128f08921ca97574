"""Grey image files of more than 8 bits: one value of white for all images of a folder."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Bit depths of cameras and scanners. Files store all of them in 16 or 32 bits, and do not name the
#: depth.
_DEPTHS = (8, 10, 12, 14, 16)

_MOST_OF_16_BITS = 65_535

# TIFF tags.
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2


def is_deep(mode: str) -> bool:
    """Return whether a Pillow mode has grey levels of 16 or 32 bits."""
    return mode.startswith("I")


def grey_levels(image: Any) -> np.ndarray:
    """Return the grey levels of a deep image, from 0 to 65,535.

    Raises
    ------
    ValueError
        If there are other values, for which white is not known.
    """
    values = np.asarray(image)
    if values.min() < 0 or values.max() > _MOST_OF_16_BITS:
        raise ValueError(
            f"its pixels are whole numbers from {values.min()} to {values.max()}; which of them "
            f"is white is not known"
        )
    return values


def depth_of(values: np.ndarray) -> int:
    """Return the smallest of 8, 10, 12, 14 and 16 bits that holds all grey levels."""
    brightest = int(values.max())
    return next(depth for depth in _DEPTHS if brightest < 2**depth)


def to_8_bits(image: Any, upright: Any, depth: int | None) -> tuple[np.ndarray, list[str]]:
    """Keep the upper eight bits of the depth.

    Parameters
    ----------
    image : PIL.Image.Image
        A deep image, as it was opened.
    upright : PIL.Image.Image
        The same image turned upright, without the metadata of the file.
    depth : int or None
        Depth of the brightest image of its folder. None: its own.

    Returns
    -------
    levels : numpy.ndarray of uint8, shape (height, width)
    remarks : list of str
        The value used as white, if it is not 65,535.
    """
    values = grey_levels(upright)
    own = depth_of(values)
    depth = own if depth is None else max(own, depth)
    levels = (values >> (depth - 8)).astype(np.uint8)
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        levels = 255 - levels  # Pillow inverts such images of 8 bits only
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        levels[values == transparent] = 255
    return levels, depth_remarks(own, depth)


def depth_remarks(own: int, depth: int) -> list[str]:
    """Return a remark on the value used as white, if it is not the image's own or not 65,535."""
    if depth < _DEPTHS[-1]:
        white = f"{2**depth - 1:,}"
        return [f"its grey levels use {own} bits: {white} is white, in all such images here"]
    if own < depth:
        return [f"its grey levels use {own} of 16 bits, and other images all: it is dark"]
    return []


def is_signed(image: Any) -> bool:
    """Return whether Pillow reads the signed 8-bit pixels of this image as unsigned ones."""
    if image.format != "TIFF" or image.mode != "L":
        return False
    return bool((np.ravel(image.tag_v2.get(_SAMPLE_FORMAT, 1)) == _SIGNED).any())


def has_deep_colours(image: Any) -> bool:
    """Return whether an opened, not yet decoded file has colours of 16 bits a channel.

    Pillow gives the upper eight bits. If the file uses fewer bits, the image is nearly black.
    """
    return not is_deep(image.mode) and any(";16" in str(tile[3]) for tile in image.tile)
