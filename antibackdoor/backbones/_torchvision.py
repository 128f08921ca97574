"""Any classifier of torchvision, fitted to the number of channels and classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def torchvision_names() -> list[str]:
    """Names of torchvision's image classifiers; empty where torchvision does not import."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError):
        # RuntimeError: a torchvision built for another torch fails as it registers operators.
        return []
    return models.list_models(module=models)


def torchvision_classifier(name: str, chw: tuple[int, int, int], n_classes: int) -> nn.Module:
    """Build an untrained torchvision classifier.

    Parameters
    ----------
    name : str
        A name of `torchvision.models.list_models`.
    chw : tuple of int
        Shape of an image, channels first. Grey images are repeated to three
        channels, which is what these networks take.
    n_classes : int
        Number of logits.

    Raises
    ------
    ValueError
        If it takes no images of this size or number of channels.
    """
    from torchvision import models

    channels, height, width = chw
    if channels not in (1, 3):
        raise ValueError(
            f"backbone={name!r} takes images of 1 or 3 channels; these have {channels}."
        )
    options: dict[str, Any] = {"weights": None, "num_classes": n_classes}
    if name in ("googlenet", "inception_v3"):
        options.update(aux_logits=False, init_weights=True)
    if name.startswith("vit_"):
        options.update(image_size=height)
    if name.startswith("maxvit"):
        options.update(input_size=(height, width))
    try:
        network = models.get_model(name, **options)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        # Transformers, whose layers follow from the size of the image, refuse some sizes.
        raise ValueError(
            f"backbone={name!r} cannot be built for images of {height} x {width} pixels: {error}"
        ) from error
    if name.startswith("squeezenet"):
        # Its classes are read from a convolution; the rest of this package reads
        # features from a linear layer, which after pooling is the same function.
        network.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, n_classes)
        )
    return nn.Sequential(RepeatGrey(), network) if channels == 1 else network


class RepeatGrey(nn.Module):
    """Repeat one channel to three."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.expand(-1, 3, -1, -1)
