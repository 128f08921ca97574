"""Weight initialisation shared by the networks of this package."""

from __future__ import annotations

from torch import nn


def initialise(module: nn.Module) -> None:
    """Initialise in place: He et al.'s normal for convolutions, zero biases.

    Everything else keeps torch's own initialisation.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
