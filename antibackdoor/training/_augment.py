"""Random crop, flip and Cutout of whole batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from antibackdoor.utils import ImageLayout

#: Names a user may give in `augment=`.
AUGMENTATIONS = ("crop", "flip", "cutout")


def resolve_augmentation(
    augment: str | Sequence[str] | None, layout: ImageLayout | None
) -> Augmentation | None:
    """Return the augmentation for the parameter `augment` of a classifier.

    Parameters
    ----------
    augment : str, sequence of str or None
        ``"auto"``, or one or some of `AUGMENTATIONS`.
    layout : ImageLayout or None
        Layout of the images; None for tables.

    Returns
    -------
    Augmentation or None

    Raises
    ------
    ValueError
        If there is no such change, or there are no images to change.
    """
    names: tuple[Any, ...]
    if augment is None:
        names = ()
    elif not isinstance(augment, str):
        names = tuple(augment)
    else:
        names = _default_augmentation(layout) if augment == "auto" else (augment,)
    unknown = [name for name in names if not isinstance(name, str) or name not in AUGMENTATIONS]
    if unknown:
        raise ValueError(
            f"augment={augment!r} holds {unknown}; wanted 'auto', None or some of {AUGMENTATIONS}."
        )
    if names and layout is None:
        raise ValueError(
            f"augment={augment!r} moves pixels, but X holds no images; give image_shape= to fold "
            f"its rows, or augment=None."
        )
    return Augmentation(names) if names else None


def _default_augmentation(layout: ImageLayout | None) -> tuple[str, ...]:
    """Return the changes that do not alter the class of most images.

    A shift is safe if it is small compared with the image. A mirror image is safe for
    photographs, but not for characters; colour is taken as a sign of photographs.
    """
    if layout is None or min(layout.height, layout.width) < 16:
        return ()
    return ("crop", "flip") if layout.channels > 1 else ("crop",)


class Augmentation:
    """Change a batch of images at random, each image differently.

    Parameters
    ----------
    names : collection of {"crop", "flip", "cutout"}
        ``"crop"`` pads by an eighth of each side (4 pixels of 32) with zeros and
        cuts the original size out; ``"flip"`` mirrors left and right half of the
        time; ``"cutout"`` sets a square of half the shorter side to zero
        (DeVries & Taylor, 2017), its centre anywhere in the image.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.training import Augmentation
    >>> generator = torch.Generator().manual_seed(0)
    >>> images = torch.zeros(5, 8, 8, 1, dtype=torch.uint8)
    >>> Augmentation(["crop", "flip"])(images, generator).shape
    torch.Size([5, 8, 8, 1])
    """

    def __init__(self, names: Collection[str]) -> None:
        self.names = tuple(name for name in AUGMENTATIONS if name in names)

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return changed images.

        Parameters
        ----------
        images : torch.Tensor of shape (n, H, W, C)
            In any type: pixels are moved or set to zero, never mixed.
        generator : torch.Generator
            On the device of the images.

        Returns
        -------
        torch.Tensor of shape (n, H, W, C)
        """
        if "crop" in self.names or "flip" in self.names:
            images = self._crop_and_flip(images, generator)
        if "cutout" in self.names:
            images = _cut_out(images, generator)
        return images

    def _crop_and_flip(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        # Both are one gather: which row and which column each pixel is read from.
        n, height, width, _ = images.shape
        rows = _arange(height, images).expand(n, -1)
        columns = _arange(width, images).expand(n, -1)
        if "flip" in self.names:
            mirrored = _random(2, (n, 1), generator).bool()
            columns = torch.where(mirrored, width - 1 - columns, columns)
        if "crop" in self.names:
            pad_rows, pad_columns = height // 8, width // 8
            images = F.pad(images, (0, 0, pad_columns, pad_columns, pad_rows, pad_rows))
            rows = rows + _random(2 * pad_rows + 1, (n, 1), generator)
            columns = columns + _random(2 * pad_columns + 1, (n, 1), generator)
        return images[_arange(n, images)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _cut_out(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    n, height, width, _ = images.shape
    half = max(1, min(height, width) // 4)
    from_centre_row = _arange(height, images) - _random(height, (n, 1), generator)
    from_centre_column = _arange(width, images) - _random(width, (n, 1), generator)
    in_rows = (-half <= from_centre_row) & (from_centre_row < half)
    in_columns = (-half <= from_centre_column) & (from_centre_column < half)
    hole = in_rows[:, :, None] & in_columns[:, None, :]
    return images.masked_fill(hole[..., None], 0)


def _arange(size: int, like: torch.Tensor) -> torch.Tensor:
    return torch.arange(size, device=like.device)


def _random(high: int, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randint(high, shape, generator=generator, device=generator.device)
