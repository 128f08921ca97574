"""Projected signed gradient descent over pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch


@torch.enable_grad()
def signed_descent(
    loss: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    *,
    steps: int,
    step_size: float,
    low: torch.Tensor | float,
    high: torch.Tensor | float,
) -> torch.Tensor:
    """Minimise a loss over pixels within a box, by projected signed gradients (PGD).

    Parameters
    ----------
    loss : callable
        Takes pixels of start's shape and returns a scalar.
    start : torch.Tensor
        Not changed.
    step_size : float
        Change of each pixel in a step.
    low, high : torch.Tensor that broadcasts with `start`, or float
        Bounds of the pixels.

    Returns
    -------
    torch.Tensor
        Pixels of start's shape.
    """
    low, high = torch.as_tensor(low).to(start), torch.as_tensor(high).to(start)
    pixels = start.detach().clone()
    for _ in range(steps):
        pixels.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(pixels), pixels)
        pixels = (pixels.detach() - step_size * gradient.sign()).clamp(low, high)
    return pixels
