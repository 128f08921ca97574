"""Optimisers: stochastic gradient descent, and Muon."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer

#: Names a user may give in `optimizer=`.
OPTIMIZERS = ("muon", "sgd")

# Length of a step of rate 1, as a share of the weights: a rate of 0.1 then suits convolutions as it
# suits all others (benchmarks/records/2026-11-29-epochs).
_LENGTH = 0.25

# Steps of Newton's iteration.
_STEPS = 6

# The polynomial of odd powers whose value and first two derivatives at 1 are 1, 0 and 0.
_NEWTON = (15 / 8, -10 / 8, 3 / 8)


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> Optimizer:
    """Build an optimiser.

    Parameters
    ----------
    name : {"muon", "sgd"}
        See `Muon`. ``"sgd"``: stochastic gradient descent with Nesterov's momentum.
    parameters : iterable of torch.nn.Parameter
    learning_rate : float
    momentum : float
        0: none.
    weight_decay : float

    Returns
    -------
    torch.optim.Optimizer

    Raises
    ------
    ValueError
        If there is no such optimiser.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer={name!r}; wanted one of {', '.join(OPTIMIZERS)}.")
    kind = Muon if name == "muon" else SGD
    return kind(
        parameters,
        lr=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        # Nesterov's method needs a momentum above 0.
        nesterov=momentum > 0,
    )


# torch.optim.Muon takes matrices alone, and does not keep their norm.
class Muon(SGD):
    """Stochastic gradient descent in which convolutions step in all directions alike.

    The weights of a convolution are seen as a matrix, a row an output channel. Its step is the
    polar factor of the momentum: the matrix with the same singular vectors whose singular values
    are all 1. Its length is a quarter of the learning rate times the norm of the weights, which
    stays as it was. All other parameters step as in `torch.optim.SGD`.

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
        Those of four axes are the weights of convolutions.
    **settings : dict
        Of `torch.optim.SGD`. The weight decay does not touch convolutions.

    References
    ----------
    Jordan, Jin, Boza, You, Cesista, Newhouse & Bernstein, Muon: An optimizer for hidden layers in
    neural networks, 2024.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], **settings: Any) -> None:
        every = list(parameters)
        groups = [
            {"params": [one for one in every if (one.ndim == 4) == is_matrix], "polar": is_matrix}
            for is_matrix in (False, True)
        ]
        super().__init__([group for group in groups if group["params"]], **settings)

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Make a step; the gradients of convolutions are gone then."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["polar"]:
                for weights in group["params"]:
                    if weights.grad is not None:
                        self._move(weights, weights.grad, group)
                        # It would be moved once more by the step of the others.
                        weights.grad = None
        super().step()
        return loss

    @torch.no_grad()
    def _move(self, weights: nn.Parameter, direction: torch.Tensor, group: dict[str, Any]) -> None:
        if group["momentum"] > 0:
            # With the name of torch's, so that the state is checked and stored as all others'.
            average = self.state[weights].setdefault("momentum_buffer", torch.zeros_like(weights))
            average.mul_(group["momentum"]).add_(direction)
            direction = direction.add(average, alpha=group["momentum"])
        matrix = direction.reshape(len(weights), -1)
        norm = weights.norm()
        has_norm = norm > 0
        # The norm of the polar factor is the square root of its rank.
        length = group["lr"] * _LENGTH / math.sqrt(min(matrix.shape))
        step = length * torch.where(has_norm, norm, 1) * polar_factor(matrix)
        weights.sub_(step.reshape(weights.shape))
        weights.mul_(torch.where(has_norm, norm / weights.norm(), 1))


def polar_factor(matrix: torch.Tensor) -> torch.Tensor:
    """Return about the matrix with the same singular vectors, its singular values all 1.

    By Newton's iteration, whose steps are polynomials of the matrix times its transpose. They
    commute, so that only this small square matrix is iterated. Singular values far below the
    largest stay below 1; a matrix of zeros stays one.

    Parameters
    ----------
    matrix : torch.Tensor of shape (n_rows, n_columns)

    Returns
    -------
    torch.Tensor of shape (n_rows, n_columns)
    """
    if matrix.shape[0] > matrix.shape[1]:
        return polar_factor(matrix.T).T
    tiny = torch.finfo(matrix.dtype).tiny
    matrix = matrix / matrix.norm().clamp_min(tiny)
    square = matrix @ matrix.T
    # At least the square of the largest singular value: the iteration needs values up to 1.
    bound = square.norm().clamp_min(tiny)
    square = square / bound
    linear, cubic, quintic = _NEWTON
    factor = eye = torch.eye(len(square), dtype=matrix.dtype, device=matrix.device)
    for _ in range(_STEPS):
        step = linear * eye + cubic * square + quintic * square @ square
        factor = step @ factor
        square = step @ square @ step
    return factor @ matrix / bound.sqrt()
