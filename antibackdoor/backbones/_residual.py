"""Pre-activation residual networks for small images: the WRN family and ResNet-18."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from antibackdoor.backbones._init import initialise


class _Block(nn.Module):
    """Pre-activation basic block of two 3x3 convolutions."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # In place wherever no gradient needs what was there: each copy is a way through memory.
        h = F.relu(self.norm1(x), inplace=True)
        # A change of shape is made from the activated input, so that both ways see it.
        residual = x if self.shortcut is None else self.shortcut(h)
        h = self.conv1(h)
        h = self.conv2(F.relu(self.norm2(h), inplace=True))
        return h.add_(residual)


class PreActResNet(nn.Module):
    """Residual network that keeps the full resolution in its first group.

    Parameters
    ----------
    channels : int
        Channels of the image.
    n_classes : int
        Number of logits.
    stem : int
        Channels of the first convolution.
    widths : sequence of int
        Channels of each group of blocks; every group but the first halves height
        and width.
    blocks : int
        Blocks in a group.
    """

    def __init__(
        self, channels: int, n_classes: int, *, stem: int, widths: Sequence[int], blocks: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, stem, 3, 1, 1, bias=False)]
        channels_in = stem
        for group, channels_out in enumerate(widths):
            for position in range(blocks):
                stride = 2 if group > 0 and position == 0 else 1
                layers.append(_Block(channels_in, channels_out, stride))
                channels_in = channels_out
        self.body = nn.Sequential(*layers, nn.BatchNorm2d(channels_in), nn.ReLU(inplace=True))
        self.head = nn.Linear(channels_in, n_classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean(dim=(2, 3)))


def wide_resnet(channels: int, n_classes: int, *, depth: int, width: int) -> PreActResNet:
    """WRN-depth-width of Zagoruyko & Komodakis (BMVC 2016); depth is 6 n + 4."""
    return PreActResNet(
        channels,
        n_classes,
        stem=16,
        widths=(16 * width, 32 * width, 64 * width),
        blocks=(depth - 4) // 6,
    )


def preact_resnet18(channels: int, n_classes: int) -> PreActResNet:
    """ResNet-18 in the pre-activation form of He et al. (ECCV 2016), for small images."""
    return PreActResNet(channels, n_classes, stem=64, widths=(64, 128, 256, 512), blocks=2)
