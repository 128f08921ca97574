"""A small rectangle in the bottom-right corner, which several attacks use."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np
import torch

from antibackdoor.utils import Fitted, FittedArray, ImageLayout, parameters

#: A square of `size`, which is read again when a row is stamped.
SQUARE_PATTERN = FittedArray(
    dtype="float64",
    shape=lambda attack: (attack.size, attack.size),
    low=lambda attack: attack.value_range_[0],
    high=lambda attack: attack.value_range_[1],
)


@parameters
class CornerPatch:
    """The part of an attack that puts `pattern_` into the bottom-right corner."""

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "pattern_": FittedArray(
            dtype="float64",
            shape=lambda attack: (
                range(1, attack.layout_.height + 1),
                range(1, attack.layout_.width + 1),
            ),
            low=lambda attack: attack.value_range_[0],
            high=lambda attack: attack.value_range_[1],
        ),
    }

    layout_: ImageLayout = field(init=False)
    pattern_: np.ndarray = field(init=False)

    def _stamp(self, rows: np.ndarray) -> None:
        stamp_corner(self.layout_, rows, self.pattern_)


def checkerboard(height: int, width: int) -> np.ndarray:
    """Return the bright pixels of a checkerboard; its bottom-right corner is bright."""
    from_corner = np.add.outer(np.arange(height)[::-1], np.arange(width)[::-1])
    return from_corner % 2 == 0


def checkered(size: int, value_range: tuple[float, float]) -> np.ndarray:
    """Return a square checkerboard of the darkest and the brightest value."""
    low, high = value_range
    return np.where(checkerboard(size, size), high, low)


def check_fits(name: str, size: int, height: int, width: int, layout: ImageLayout) -> None:
    """Refuse a patch of height x width that is larger than the images."""
    if height > layout.height or width > layout.width:
        raise ValueError(
            f"{name}={size} is larger than the images in X, which are {layout.height} pixels high "
            f"and {layout.width} wide."
        )


def stamp_corner(layout: ImageLayout, rows: np.ndarray, pattern: np.ndarray) -> None:
    """Put a pattern (h, w) or (C, h, w) into the corner of contiguous rows, in place."""
    height, width = pattern.shape[-2:]
    # A view, since the rows are contiguous: writing to it changes them.
    layout.to_nchw(rows)[:, :, -height:, -width:] = in_dtype(pattern, rows.dtype)


def in_dtype(pattern: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a pattern in the dtype of rows, rounded for integer dtypes."""
    return (pattern if dtype.kind == "f" else np.rint(pattern)).astype(dtype)


def paste(images: torch.Tensor, patch: torch.Tensor) -> torch.Tensor:
    """Return images (n, C, H, W) with a patch (h, w) or (C, h, w); differentiable."""
    height, width = patch.shape[-2:]
    pasted = images.clone()
    pasted[:, :, -height:, -width:] = patch
    return pasted
