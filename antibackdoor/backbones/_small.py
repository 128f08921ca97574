"""The two small networks: a CNN for tiny images, an MLP for tables."""

from __future__ import annotations

from torch import nn

from antibackdoor.backbones._init import initialise


def small_cnn(channels: int, n_classes: int) -> nn.Sequential:
    """Three 3x3 convolutions with one pooling step between them: for images of 8 to 15 pixels."""
    network = nn.Sequential(
        nn.Conv2d(channels, 32, 3, 1, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 64, 3, 1, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        # ceil_mode: an image one pixel wide still has a pixel after pooling.
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(64, 64, 3, 1, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, n_classes),
    )
    initialise(network)
    return network


def mlp(n_inputs: int, n_classes: int) -> nn.Sequential:
    """Two hidden layers of 128 units.

    No batch norm: tables are often small, and one row must be enough for a batch.
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(n_inputs, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, n_classes),
    )
