"""A patch on the inputs of a network, such that gradients pass."""

from __future__ import annotations

import torch


def paste(images: torch.Tensor, patch: torch.Tensor) -> torch.Tensor:
    """Put a patch (C, h, w) into the bottom-right corner of images (n, C, H, W)."""
    height, width = patch.shape[-2:]
    pasted = images.clone()
    pasted[:, :, -height:, -width:] = patch
    return pasted
