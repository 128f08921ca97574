"""A small rectangle at the edge of the image, as several attacks use it."""

from __future__ import annotations

import numpy as np

from antibackdoor.utils import ImageLayout


def checkerboard(height: int, width: int) -> np.ndarray:
    """Return where a checkerboard is bright: its bottom-right corner always is."""
    from_corner = np.add.outer(np.arange(height)[::-1], np.arange(width)[::-1])
    return from_corner % 2 == 0


def check_fits(name: str, size: int, height: int, width: int, layout: ImageLayout) -> None:
    """Refuse a patch of height x width that is larger than the images."""
    if height > layout.height or width > layout.width:
        raise ValueError(
            f"{name}={size} is larger than the images in X, which are {layout.height} pixels high "
            f"and {layout.width} wide."
        )
