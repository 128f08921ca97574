"""Rows moved against networks by no more than a bound."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from antibackdoor.attacks._descent import signed_descent
from antibackdoor.attacks._learned import LearnedAttack


def move_within(
    attack: LearnedAttack,
    rows: np.ndarray,
    module: nn.Module,
    loss: Callable[[torch.Tensor, slice], torch.Tensor],
    *,
    eps: float,
    steps: int,
) -> None:
    """Minimise a loss over the pixels of rows, each within `eps` of what it was.

    A step is 2.5 / `steps` of the bound, as in Madry et al. (2018): enough to cross it.

    Parameters
    ----------
    attack : LearnedAttack
        Fitted; says how rows become inputs.
    rows : ndarray of shape (n, *input_shape_)
        Changed in place, a few rows at a time.
    module : torch.nn.Module
        What the loss asks.
    loss : callable
        Given inputs and which rows they are; returns a sum over the rows, so that none
        moves another.
    eps : float
        In 255ths of the width of `value_range_`.
    steps : int
    """
    before = rows.astype(np.float64)
    bound = attack._in_input_units(eps)
    darkest, brightest = attack._input_range()

    def move(inputs: torch.Tensor, chosen: slice) -> torch.Tensor:
        return signed_descent(
            lambda pixels: loss(pixels, chosen),
            inputs,
            steps=steps,
            step_size=2.5 * bound / steps,
            low=(inputs - bound).clamp(darkest, brightest),
            high=(inputs + bound).clamp(darkest, brightest),
        )

    attack._change_inputs(rows, module, move)
    # The way there and back rounds, and whole numbers may round past the bound.
    low, high = attack.value_range_
    bound_in_rows = eps * (high - low) / 255
    if rows.dtype.kind != "f":
        bound_in_rows = np.floor(bound_in_rows)
    inside = np.clip(rows, before - bound_in_rows, before + bound_in_rows)
    # A row that lies somewhat outside the range is not cut to it.
    rows[:] = np.clip(inside, np.minimum(before, low), np.maximum(before, high)).astype(rows.dtype)
