"""Random triggers without meaning, as an augmentation for the probes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn import functional as F

from antibackdoor.training import Augmentation

# As shares of the usual range of values, or of a side of the image.
_FAINTEST, _STRONGEST = 0.05, 0.3
_MOST_MOVED = 0.1
_LONGEST_SIDE = 0.3

# Number of waves across an image, from a ramp to fine stripes.
_MOST_WAVES = 8.0


class Disturbance(Augmentation):
    """Put a random trigger on most images of a batch: a blend, a wave, a warp or a patch.

    A network that has seen few images of a kind predicts all of them as one class. So a probe
    would recognise no row under a trigger. Here it trains under triggers of every kind, on rows
    that keep their labels, and learns to ignore a new trigger too.

    Parameters
    ----------
    usual : tuple of two float
        Range of nearly all pixel values, in stored units. The strength of a trigger is relative
        to it.
    limits : tuple of two float
        Smallest and largest value of a pixel, in stored units.
    """

    def __init__(self, usual: tuple[float, float], limits: tuple[float, float]) -> None:
        super().__init__(())
        self.low, high = usual
        self.range = high - self.low
        self.limits = limits

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return disturbed images.

        Parameters
        ----------
        images : torch.Tensor of shape (n, H, W, C)
            In any type.
        generator : torch.Generator
            On the device of the images.

        Returns
        -------
        torch.Tensor of shape (n, H, W, C)
            Of the same type.
        """
        # About 0 to 1, channels first. Each kind gets a fifth of the images, and a fifth stays.
        values = ((images.float() - self.low) / self.range).permute(0, 3, 1, 2)
        kinds = torch.randint(5, (len(images),), generator=generator, device=images.device)
        disturbed = values.clone()
        for number, disturb in enumerate(_KINDS):
            rows = torch.nonzero(kinds == number)[:, 0]
            if len(rows):
                disturbed[rows] = disturb(values[rows], generator)
        told = (disturbed.permute(0, 2, 3, 1) * self.range + self.low).clamp_(*self.limits)
        told = told if images.is_floating_point() else told.round()
        # Images without a trigger stay exactly as they were.
        untouched = (kinds == len(_KINDS))[:, None, None, None]
        return torch.where(untouched, images, told.to(images.dtype))


def _blend(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A picture of random squares, coarse or fine, over the whole image."""
    n, channels, height, width = images.shape
    fine = torch.rand(images.shape, generator=generator, device=images.device)
    grid = torch.rand((n, channels, 4, 4), generator=generator, device=images.device)
    coarse = F.interpolate(grid, size=(height, width))
    picture = torch.where(_uniform(generator, images, n, 0, 1) < 0.5, fine, coarse)
    share = _uniform(generator, images, n, _FAINTEST, _STRONGEST)
    return images * (1 - share) + picture * share


def _wave(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A wave of brightness across the image in a random direction."""
    n, _, height, width = images.shape
    down = torch.linspace(0, 1, height, device=images.device)[:, None]
    across = torch.linspace(0, 1, width, device=images.device)[None, :]
    direction = _uniform(generator, images, n, 0, 2 * math.pi)
    waves = _MOST_WAVES * _uniform(generator, images, n, 0, 1) ** 2
    start = _uniform(generator, images, n, 0, 2 * math.pi)
    phase = math.pi * 2 * waves * (down * direction.sin() + across * direction.cos()) + start
    return images + phase.cos() * _uniform(generator, images, n, _FAINTEST, _STRONGEST)


def _warp(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pixels moved by a smooth random field."""
    n, _, height, width = images.shape
    field = torch.randn((n, 2, 4, 4), generator=generator, device=images.device)
    field = F.interpolate(field, size=(height, width), mode="bilinear", align_corners=True)
    # The coordinates of `grid_sample` span two units.
    field = field * 2 * _uniform(generator, images, n, 0, _MOST_MOVED)
    still = F.affine_grid(
        torch.eye(2, 3, device=images.device).expand(n, 2, 3),
        [n, 1, height, width],
        align_corners=False,
    )
    moved = still + field.permute(0, 2, 3, 1)
    return F.grid_sample(images, moved, padding_mode="border", align_corners=False)


def _patch(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A rectangle of random pixels, or of one colour, anywhere."""
    n, channels, height, width = images.shape
    down = torch.linspace(0, 1, height, device=images.device)[:, None]
    across = torch.linspace(0, 1, width, device=images.device)[None, :]
    inside = torch.ones((n, 1, height, width), dtype=torch.bool, device=images.device)
    for place in (down, across):
        centre = _uniform(generator, images, n, 0, 1)
        side = _uniform(generator, images, n, 2 / min(height, width), _LONGEST_SIDE)
        inside &= (place - centre).abs() <= side / 2
    pixels = torch.rand((n, channels, height, width), generator=generator, device=images.device)
    colour = torch.rand((n, channels, 1, 1), generator=generator, device=images.device)
    is_plain = _uniform(generator, images, n, 0, 1) < 0.5
    return torch.where(inside, torch.where(is_plain, colour, pixels), images)


_KINDS: tuple[Callable[[torch.Tensor, torch.Generator], torch.Tensor], ...] = (
    _blend,
    _wave,
    _warp,
    _patch,
)


def _uniform(
    generator: torch.Generator, like: torch.Tensor, n: int, low: float, high: float
) -> torch.Tensor:
    """Draw n numbers, shape (n, 1, 1, 1)."""
    drawn = torch.rand((n, 1, 1, 1), generator=generator, device=like.device)
    return low + (high - low) * drawn
