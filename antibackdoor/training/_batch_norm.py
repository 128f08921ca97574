"""Batch norm for a batch that is divided among several processes.

torch's own, `torch.nn.SyncBatchNorm`, runs on GPUs only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from antibackdoor.training._parallel import Team


def batch_norm(layer: _BatchNorm, team: Team, counts: bool, x: torch.Tensor) -> torch.Tensor:
    """Apply a batch-norm layer to this process's share of a batch.

    Parameters
    ----------
    layer : torch.nn.BatchNorm1d, 2d or 3d
        Its running statistics are updated with the whole batch.
    team : Team
        The processes, all of which call this at the same time.
    counts : bool
        Whether these rows belong to the batch; False for a row that only avoids an empty share.
    x : torch.Tensor of shape (n, C) or (n, C, ...)

    Returns
    -------
    torch.Tensor
        Of the same shape.
    """
    if not layer.training and layer.running_mean is not None:
        return type(layer).forward(layer, x)
    layer._check_input_dim(x)
    with torch.no_grad():
        mean, variance, n_values = _statistics(team, x if counts else x[:0])
        if layer.training and layer.running_mean is not None:
            _follow(layer, mean, variance, n_values)
    return _Normalise.apply(
        x, layer.weight, layer.bias, mean, variance, n_values, layer.eps, team, counts
    )


def _statistics(team: Team, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return mean, variance and number of values of each channel over all processes."""
    n_channels = x.shape[1]
    x = _widened(x)
    every = x.new_zeros(team.size, 2 * n_channels + 1)
    if len(x):
        variance, mean = torch.var_mean(x, _all_but_channels(x), correction=0)
        every[team.rank] = torch.cat([mean, variance, mean.new_full((1,), x.numel() / n_channels)])
    means, variances, n_values = team.add_up(every).split([n_channels, n_channels, 1], dim=1)
    weights = n_values / n_values.sum()
    mean = (weights * means).sum(0)
    # Variance within the shares and between them, since squares about zero would lose digits.
    variance = (weights * (variances + (means - mean).square())).sum(0)
    return mean, variance, n_values.sum()


def _follow(
    layer: _BatchNorm, mean: torch.Tensor, variance: torch.Tensor, n_values: torch.Tensor
) -> None:
    """Update the running statistics of a layer."""
    assert layer.running_mean is not None and layer.running_var is not None
    factor = layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        if factor is None:
            factor = 1.0 / float(layer.num_batches_tracked)
    factor = factor or 0.0
    layer.running_mean.lerp_(mean, factor)
    layer.running_var.lerp_(variance * n_values / (n_values - 1), factor)


class _Normalise(torch.autograd.Function):
    """weight * (x - mean) / sqrt(variance + eps) + bias, of a mean and variance made from all x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        mean: torch.Tensor,
        variance: torch.Tensor,
        n_values: torch.Tensor,
        eps: float,
        team: Team,
        counts: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps), n_values)
        ctx.team, ctx.counts = team, counts
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, scale, n_values = ctx.saved_tensors
        shape = (1, -1) + (1,) * (x.ndim - 2)
        gradient = _widened(gradient)
        standardised = (x - mean.view(shape)) * scale.view(shape)
        mine = torch.stack(
            [
                (gradient * standardised).sum(_all_but_channels(x)),
                gradient.sum(_all_but_channels(x)),
            ]
        )
        of_weight, of_bias = mine if weight is not None else (None, None)
        # Each value changes the mean and the variance, and so the rows of all processes.
        along, level = ctx.team.add_up(mine.clone()) / n_values
        if weight is not None:
            scale = scale * weight
        of_x = gradient - standardised * along.view(shape) - level.view(shape)
        of_x = of_x * scale.view(shape) if ctx.counts else torch.zeros_like(of_x)
        return of_x.to(x.dtype), of_weight, of_bias, *(None,) * 6


def _widened(x: torch.Tensor) -> torch.Tensor:
    """Return half-precision values as float32, in which sums of many keep their digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _all_but_channels(x: torch.Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]
