"""How the rows of an array hold images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from antibackdoor.utils._arguments import check_whole_numbers

ChannelsAxis = Literal["none", "first", "last"]

#: Axis lengths taken for channels when `layout="auto"`: grey, colour, colour with alpha.
_CHANNEL_COUNTS = (1, 3, 4)


@dataclass(frozen=True)
class ImageLayout:
    """Layout of the images in an array: channels, height, width, and order of the axes.

    Attributes
    ----------
    input_shape : tuple of int
        Shape of one row as the user holds it.
    channels, height, width : int
        Size of the image in that row.
    channels_axis : {"none", "first", "last"}
        Position of the channels, after a flattened row is reshaped.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.utils import resolve_layout
    >>> layout = resolve_layout((32, 16, 3))
    >>> layout.chw, layout.to_nchw(np.zeros((5, 32, 16, 3))).shape
    ((3, 32, 16), (5, 3, 32, 16))
    """

    input_shape: tuple[int, ...]
    channels: int
    height: int
    width: int
    channels_axis: ChannelsAxis

    @property
    def chw(self) -> tuple[int, int, int]:
        """Shape of one image, channels first."""
        return (self.channels, self.height, self.width)

    @property
    def folded_shape(self) -> tuple[int, ...]:
        """Shape of one image in the user's own order of axes."""
        size = (self.height, self.width)
        if self.channels_axis == "none":
            return size
        if self.channels_axis == "first":
            return (self.channels, *size)
        return (*size, self.channels)

    def to_nchw(self, X: np.ndarray) -> np.ndarray:
        """Show rows as (n, C, H, W): a view where numpy can give one."""
        images = X.reshape(len(X), *self.folded_shape)
        if self.channels_axis == "none":
            return images[:, np.newaxis]
        return np.moveaxis(images, -1, 1) if self.channels_axis == "last" else images

    def from_nchw(self, images: np.ndarray) -> np.ndarray:
        """Undo `to_nchw`."""
        if self.channels_axis == "last":
            images = np.moveaxis(images, 1, -1)
        return images.reshape(len(images), *self.input_shape)


def resolve_layout(
    input_shape: Sequence[int],
    image_shape: Sequence[int] | None = None,
    layout: Literal["auto", "channels_first", "channels_last"] = "auto",
) -> ImageLayout | None:
    """Return the image layout of rows of a given shape; None for tables.

    Parameters
    ----------
    input_shape : sequence of int
        Shape of one row of X: ``X.shape[1:]``.
    image_shape : sequence of int, default=None
        Shape that a flattened row folds into: (H, W), (H, W, C) or (C, H, W).
    layout : {"auto", "channels_first", "channels_last"}, default="auto"
        Position of the channel axis of images with three axes. ``"auto"``: the one outer axis of
        length 1, 3 or 4.

    Returns
    -------
    ImageLayout or None
        None for tabular rows: one axis and no `image_shape`.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or the layout is ambiguous for ``"auto"``.
    TypeError
        If `image_shape` holds something other than numbers.

    Examples
    --------
    >>> from antibackdoor.utils import resolve_layout
    >>> resolve_layout((64,), image_shape=(8, 8)).chw
    (1, 8, 8)
    >>> resolve_layout((64,)) is None  # a table
    True
    """
    input_shape = tuple(int(size) for size in input_shape)
    if 0 in input_shape:
        raise ValueError(f"X has rows of shape {input_shape}: there is nothing in them.")
    folded = input_shape
    if image_shape is not None:
        folded = _check_image_shape(image_shape, input_shape)
    elif len(input_shape) == 1:
        return None

    if len(folded) == 2:
        return ImageLayout(input_shape, 1, *folded, channels_axis="none")
    if len(folded) != 3:
        raise ValueError(
            f"X has rows of shape {input_shape}; wanted (n_features,), (H, W), (H, W, C) "
            f"or (C, H, W), which makes X an array of 2, 3 or 4 axes."
        )
    if layout == "auto":
        layout = _guess_layout(folded)
    if layout == "channels_first":
        channels, height, width = folded
        return ImageLayout(input_shape, channels, height, width, channels_axis="first")
    height, width, channels = folded
    return ImageLayout(input_shape, channels, height, width, channels_axis="last")


def _check_image_shape(image_shape: Sequence[int], input_shape: tuple[int, ...]) -> tuple[int, ...]:
    wanted = "(H, W), (H, W, C) or (C, H, W), all positive integers"
    folded = check_whole_numbers("image_shape", image_shape, wanted)
    if len(folded) not in (2, 3) or min(folded) < 1:
        raise ValueError(f"image_shape={image_shape!r}; wanted {wanted}.")
    if len(input_shape) == 1 and math.prod(folded) != input_shape[0]:
        raise ValueError(
            f"image_shape={folded} holds {math.prod(folded)} values, but X has "
            f"{input_shape[0]} features a row."
        )
    if len(input_shape) > 1 and folded != input_shape:
        raise ValueError(
            f"image_shape={folded} differs from the rows of X, which have shape "
            f"{input_shape}; leave image_shape=None for rows that are images already."
        )
    return folded


def _guess_layout(
    folded: tuple[int, ...],
) -> Literal["channels_first", "channels_last"]:
    first, last = folded[0] in _CHANNEL_COUNTS, folded[-1] in _CHANNEL_COUNTS
    if first == last:
        raise ValueError(
            f"layout='auto' cannot tell where the channels of images of shape {folded} "
            f"are; give layout='channels_first' or layout='channels_last'."
        )
    return "channels_first" if first else "channels_last"
