"""Rows changed against networks, within a bound (PGD)."""

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
    """Minimise a loss over the pixels of rows, each within `eps` of its old value.

    A step is 2.5 / `steps` of the bound, as in Madry et al. (2018): enough to reach it.

    Parameters
    ----------
    attack : LearnedAttack
        A fitted attack, which converts rows to inputs.
    rows : ndarray of shape (n, *input_shape_)
        Changed in place, a few rows at a time.
    module : torch.nn.Module
        The network of the loss.
    loss : callable
        Takes inputs and a slice that says which rows they are. Returns a sum over the rows, so
        that rows do not influence each other.
    eps : float
        Bound, in 255ths of the width of `value_range_`.
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
    # Conversions to inputs and back round values, for whole numbers possibly past the bound.
    low, high = attack.value_range_
    bound_in_rows = eps * (high - low) / 255
    if rows.dtype.kind != "f":
        bound_in_rows = np.floor(bound_in_rows)
    inside = np.clip(rows, before - bound_in_rows, before + bound_in_rows)
    # A row that lies somewhat outside the range is not clipped to it.
    rows[:] = np.clip(inside, np.minimum(before, low), np.maximum(before, high)).astype(rows.dtype)
