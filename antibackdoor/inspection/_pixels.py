"""Conversion of rows of any layout and unit to displayable images."""

from __future__ import annotations

from typing import Any

import numpy as np

from antibackdoor.utils import ImageLayout, resolve_layout


def layout_of(estimator: Any, input_shape: tuple[int, ...]) -> ImageLayout | None:
    """Return the layout that an estimator uses for rows of this shape; None for tables.

    Raises
    ------
    ValueError
        If the layout of images is ambiguous.
    """
    return resolve_layout(
        input_shape, getattr(estimator, "image_shape", None), getattr(estimator, "layout", "auto")
    )


def value_range(X: np.ndarray) -> tuple[float, float]:
    """Return the values that are shown as black and white.

    Parameters
    ----------
    X : numpy.ndarray of shape (n, ...)

    Returns
    -------
    tuple of two float
        0 and 255 for uint8. For other numbers 0 and 1 if all values lie between them, else the
        lowest and the highest value.
    """
    if X.dtype == np.uint8:
        return 0.0, 255.0
    if X.size == 0:
        return 0.0, 1.0
    low, high = float(X.min()), float(X.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("X holds NaN or infinity: it is not what a classifier was fitted on.")
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def to_pixels(X: np.ndarray, layout: ImageLayout, limits: tuple[float, float]) -> np.ndarray:
    """Return rows as pixels, grey or colour.

    An alpha channel is left out. With any other number of channels their mean is shown.

    Parameters
    ----------
    X : numpy.ndarray of shape (n, *layout.input_shape)
    limits : tuple of two float
        The values of black and white.

    Returns
    -------
    numpy.ndarray of shape (n, H, W) or (n, H, W, 3), uint8
    """
    images = np.moveaxis(layout.to_nchw(X), 1, -1)
    if images.shape[-1] in (3, 4):
        images = images[..., :3]
    elif images.shape[-1] == 1:
        images = images[..., 0]
    else:
        images = images.mean(axis=-1)
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    low, high = limits
    shares = (images.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.rint(255 * shares.clip(0, 1)).astype(np.uint8)
