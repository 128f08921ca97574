"""Image files decoded into one array."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np


def decode_images(
    samples: Sequence[tuple[str, int]], image_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Decode image files to RGB and resize them, whatever their proportions.

    Nothing is cut off, so that each image is seen whole.

    Parameters
    ----------
    samples : sequence of (str, int)
        Path and label of each image.
    image_size : int
        Height and width of every row.

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
    for row, (path, _) in enumerate(samples):
        X[row] = _decode(path, image_size)
    return X, np.array([label for _, label in samples], dtype=np.int64)


def _decode(path: str, image_size: int) -> np.ndarray:
    from PIL import Image

    size = (image_size, image_size)
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
    # What PIL's decoders raise, each in its own way, for a damaged file.
    except (
        OSError,
        EOFError,
        SyntaxError,
        ValueError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(f"{path} cannot be decoded as an image: {error}") from error
