"""Features without labels: SimCLR's contrast of two random views of each sample."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from antibackdoor.backbones import Network

# Least share of an image that a view shows, and the largest change of its aspect ratio.
_SMALLEST_AREA = 0.2
_LARGEST_RATIO = 4 / 3
# Colours: half of SimCLR's strength, as its authors take for small images.
_P_JITTER = 0.8
_P_GREY = 0.2
_JITTER = 0.4
_LARGEST_TURN = 0.1 * 2 * math.pi
# Share of a row's features that a view of a table replaces.
_CORRUPTED = 0.3


class RandomViews:
    """Change each sample of a batch at random, but for its content.

    A view of an image is a random crop, resized to the full size, with changed colours. In a
    view of a table's row some features come from other rows (as in SCARF, Bahri et al., ICLR
    2022).

    Parameters
    ----------
    flip : bool
        Whether half of the images are mirrored.
    generator : torch.Generator
        On the device of the batches.
    """

    def __init__(self, flip: bool, generator: torch.Generator) -> None:
        self._flip = flip
        self._generator = generator

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return a view of each sample, of the shape and type of the inputs.

        Parameters
        ----------
        inputs : torch.Tensor of shape (n, C, H, W) or (n, n_features)
            Of any range; a view of pixels may leave [0, 1].
        """
        if inputs.ndim == 2:
            return self._corrupt(inputs)
        return self._change_colours(self._crop(inputs))

    def _corrupt(self, rows: torch.Tensor) -> torch.Tensor:
        donors = torch.randint(len(rows), rows.shape, generator=self._generator, device=rows.device)
        replaced = self._uniform(0, 1, rows, rows.shape) < _CORRUPTED
        return torch.where(replaced, rows.gather(0, donors), rows)

    def _crop(self, images: torch.Tensor) -> torch.Tensor:
        """Crop each image at random and resize the crop to the full size."""
        # In torch's coordinates, in which an image reaches from -1 to 1 on both axes.
        area = self._uniform(_SMALLEST_AREA, 1, images)
        log_ratio = math.log(_LARGEST_RATIO)
        ratio = self._uniform(-log_ratio, log_ratio, images).exp()
        width = (area * ratio).sqrt().clamp(max=1)
        height = (area / ratio).sqrt().clamp(max=1)
        across = self._uniform(-1, 1, images) * (1 - width)
        down = self._uniform(-1, 1, images) * (1 - height)
        if self._flip:
            width = torch.where(self._uniform(0, 1, images) < 0.5, -width, width)
        place = torch.zeros(len(images), 2, 3, dtype=images.dtype, device=images.device)
        place[:, 0, 0], place[:, 0, 2] = width, across
        place[:, 1, 1], place[:, 1, 2] = height, down
        grid = F.affine_grid(place, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _change_colours(self, images: torch.Tensor) -> torch.Tensor:
        """Change brightness, contrast, saturation and hue of each image, or make it grey.

        Together these are one affine map of the colours. The grey part, the mean of the
        channels, is scaled; the rest is scaled and rotated about the grey axis.
        """
        n, channels = images.shape[:2]
        jittered = self._uniform(0, 1, images) < _P_JITTER
        brightness, contrast, saturation = (
            torch.where(jittered, self._uniform(1 - _JITTER, 1 + _JITTER, images), 1.0)
            for _ in range(3)
        )
        if channels == 3:
            turn = jittered * self._uniform(-_LARGEST_TURN, _LARGEST_TURN, images)
            saturation = saturation * (self._uniform(0, 1, images) >= _P_GREY)
            colours = _turned_colours(turn, saturation)
        else:  # the meaning of other channels is not known
            colours = torch.eye(channels, dtype=images.dtype, device=images.device)[None]
        mean = images.mean((1, 2, 3))
        colours = colours * (brightness * contrast)[:, None, None]
        offset = brightness * (1 - contrast) * mean
        # One row a pixel, which is how images lie in memory.
        pixels = images.permute(0, 2, 3, 1).reshape(n, -1, channels)
        changed = torch.baddbmm(offset[:, None, None], pixels, colours.mT)
        return changed.view(n, *images.shape[2:], channels).permute(0, 3, 1, 2)

    def _uniform(
        self, low: float, high: float, like: torch.Tensor, shape: tuple[int, ...] | None = None
    ) -> torch.Tensor:
        """Draw a uniform number for each sample, or as many as a shape has."""
        drawn = torch.empty(shape or len(like), dtype=like.dtype, device=like.device)
        return drawn.uniform_(low, high, generator=self._generator)


def _turned_colours(turn: torch.Tensor, saturation: torch.Tensor) -> torch.Tensor:
    """Return matrices that rotate RGB about the grey axis and scale what is not grey.

    Parameters
    ----------
    turn, saturation : torch.Tensor of shape (n,)
        Angles, and factors.

    Returns
    -------
    torch.Tensor of shape (n, 3, 3)
    """
    whole = torch.eye(3, dtype=turn.dtype, device=turn.device)
    ones = torch.ones_like(whole)
    grey = ones / 3
    colour = whole - grey
    across = torch.linalg.cross(whole, ones) / math.sqrt(3)
    turned = turn.cos()[:, None, None] * colour + turn.sin()[:, None, None] * across
    return grey + saturation[:, None, None] * turned


def nt_xent(projected: torch.Tensor, temperature: float = 0.5) -> torch.Tensor:
    """Return the NT-Xent loss of SimCLR (Chen et al., ICML 2020, equation 1).

    It is the mean over all views i of -log exp(s_ij / t) / sum over k != i of exp(s_ik / t). Here
    s is the cosine similarity of two views, and j the other view of the sample of i.

    Parameters
    ----------
    projected : torch.Tensor of shape (2 n, n_dimensions)
        A view of each sample, and then another of each.

    Returns
    -------
    torch.Tensor
        A scalar, in nats.
    """
    directions = F.normalize(projected, dim=1)
    similarity = directions @ directions.T / temperature
    similarity = similarity.masked_fill(
        torch.eye(len(projected), dtype=torch.bool, device=projected.device), -torch.inf
    )
    partners = torch.arange(len(projected), device=projected.device).roll(len(projected) // 2)
    return F.cross_entropy(similarity, partners)


class Contrast:
    """Self-supervised objective of a body: `nt_xent` of two views of each sample.

    Labels are not used. The logits, which serve the history only, come from an untrained head.

    Parameters
    ----------
    projection : torch.nn.Module
        Projection head: maps the features to where views are compared. It is trained too, and
        not kept.
    """

    def __init__(self, views: RandomViews, projection: nn.Module) -> None:
        self._views = views
        self._projection = projection

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value to minimise and the logits; see `Objective`."""
        views = torch.cat([self._views(inputs), self._views(inputs)])
        features = network.features(views)
        logits = network.head(features[: len(inputs)].detach())
        return nt_xent(self._projection(features)), logits
