"""Grey files of more than 8 bits: one white for all the images of a folder."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Bits that cameras and scanners give. A file holds them in 16 or 32, whichever they are, and
#: does not say which.
_DEPTHS = (8, 10, 12, 14, 16)

_MOST_OF_16_BITS = 65_535

# Tags of TIFF.
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2


def is_deep(mode: str) -> bool:
    """Tell whether an image of Pillow's has grey levels of 16 or 32 bits."""
    return mode.startswith("I")


def grey_levels(image: Any) -> np.ndarray:
    """Return the grey levels of a deep image, from 0 to 65,535.

    Raises
    ------
    ValueError
        If there are others, of which white is not known.
    """
    values = np.asarray(image)
    if values.min() < 0 or values.max() > _MOST_OF_16_BITS:
        raise ValueError(
            f"its pixels are whole numbers from {values.min()} to {values.max()}, of which white "
            f"is not known"
        )
    return values


def depth_of(values: np.ndarray) -> int:
    """Return the least of 8, 10, 12, 14 and 16 bits that hold all grey levels."""
    brightest = int(values.max())
    return next(depth for depth in _DEPTHS if brightest < 2**depth)


def to_8_bits(image: Any, upright: Any, depth: int | None) -> tuple[np.ndarray, list[str]]:
    """Keep the upper eight bits of the depth.

    Parameters
    ----------
    image : PIL.Image.Image
        A deep one, as it was opened.
    upright : PIL.Image.Image
        The same turned upright, which has forgotten what the file said.
    depth : int or None
        That of the brightest image of its folder. None: its own.

    Returns
    -------
    levels : numpy.ndarray of uint8, shape (height, width)
    remarks : list of str
        What white was taken to be, where it is not 65,535.
    """
    values = grey_levels(upright)
    own = depth_of(values)
    depth = own if depth is None else max(own, depth)
    levels = (values >> (depth - 8)).astype(np.uint8)
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        levels = 255 - levels  # Pillow turns those of 8 bits round, and no others
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        levels[values == transparent] = 255
    return levels, depth_remarks(own, depth)


def depth_remarks(own: int, depth: int) -> list[str]:
    """Say of an image what white was taken to be, where it is not its own or not 65,535."""
    if depth < _DEPTHS[-1]:
        white = f"{2**depth - 1:,}"
        return [f"its grey levels use {own} bits: {white} is white, in all such images here"]
    if own < depth:
        return [f"its grey levels use {own} of 16 bits, and other images all: it is dark"]
    return []


def is_signed(image: Any) -> bool:
    """Tell whether Pillow takes signed pixels of 8 bits for unsigned ones."""
    if image.format != "TIFF" or image.mode != "L":
        return False
    return bool((np.ravel(image.tag_v2.get(_SAMPLE_FORMAT, 1)) == _SIGNED).any())


def has_deep_colours(image: Any) -> bool:
    """Tell whether a file that is open and not decoded has colours of 16 bits a channel.

    Pillow gives their upper eight, so that those of a file that uses fewer are all but black.
    """
    return not is_deep(image.mode) and any(";16" in str(tile[3]) for tile in image.tile)
