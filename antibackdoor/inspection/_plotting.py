"""Helpers of the displays: matplotlib if installed, and grids of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from antibackdoor.utils import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours of other rows and flagged rows, distinct for colour-blind readers too.
OTHERS, FLAGGED = "#4c72b0", "#c44e52"

# Gap between two images as a share of an image, and the gap above one with a title.
_GAP, _TITLE = 0.12, 0.3


def check_plot(caller: str) -> None:
    """Check that matplotlib is installed; the ImportError says how to install it."""
    require(caller, "plot", "matplotlib")


def new_axes(**figure: Any) -> Axes:
    """Return the axes of a new pyplot figure."""
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained", **figure)[1]


def show_grid(
    ax: Axes,
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    n_columns: int,
    **imshow: Any,
) -> list[Any]:
    """Show images in a grid, each under its title.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Emptied of its axes and ticks.
    images : sequence of numpy.ndarray of shape (H, W) or (H, W, 3)
        All of one size.
    titles : sequence of str
        One for each image; may be empty texts.
    **imshow : dict
        For `matplotlib.axes.Axes.imshow`.
    """
    height, width = images[0].shape[:2]
    across = width * (1 + _GAP)
    down = height * (1 + (_TITLE if any(titles[n_columns:]) else _GAP))
    shown = []
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        left, top = number % n_columns * across, number // n_columns * down
        extent = (left, left + width, top + height, top)
        settings: dict[str, Any] = {"cmap": "gray", "interpolation": "nearest"} | imshow
        shown.append(ax.imshow(image, extent=extent, **settings))
        # Labels are shown literally: a dollar sign does not begin a formula.
        ax.text(
            left + width / 2,
            top - 0.03 * height,
            title,
            ha="center",
            va="bottom",
            fontsize="small",
            parse_math=False,
        )
    n_lines = -(-len(images) // n_columns)
    ax.set_xlim(0, min(len(images), n_columns) * across - width * _GAP)
    ax.set_ylim((n_lines - 1) * down + height, -_TITLE * height if any(titles) else 0)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return shown
