"""What a step minimises: cross-entropy, the ascents of ABL, and negative learning.

An objective is called with the network, a batch of inputs, their labels and
their row numbers, and returns the value to minimise and the logits.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch.nn import functional as F

from antibackdoor.backbones import Network


class Objective(Protocol):
    """What the training loop calls at each step.

    The network that it is called with has the weights of the one in training, but its body may
    be wrapped. An objective that asks for more than its logits, features and head, such as for
    maps inside the body or for weights by their name, has an attribute
    ``takes_network_apart = True`` and is handed the network itself.
    """

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value to minimise, a scalar, and the logits (n, n_classes)."""


@runtime_checkable
class StatefulObjective(Protocol):
    """What an objective has besides, if it learns or gathers something from step to step."""

    def state(self) -> dict[str, Any]:
        """Return what changes, as tensors in dicts and lists."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state of an equal objective."""


def sample_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each sample, in nats, shape (n,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def log_odds(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logarithm of the odds of each sample's label against all others, in nats, shape (n,)."""
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, labels[:, None], True)
    others = logits.masked_fill(own, -torch.inf).logsumexp(1)
    return logits.gather(1, labels[:, None])[:, 0] - others


def local_gradient_ascent(
    losses: torch.Tensor, gamma: float, reduction: Literal["batch", "sample"] = "batch"
) -> torch.Tensor:
    """Local gradient ascent, L_LGA of ABL: E[ sign(l - gamma) * l ].

    Parameters
    ----------
    losses : torch.Tensor of shape (n,)
        Cross-entropy of each sample, in nats.
    gamma : float
        Level at which the loss is held.
    reduction : {"batch", "sample"}, default="batch"
        Whether l is the mean of the batch, which lets single samples fall far
        below gamma while the mean is held, or each sample's own loss, as in the
        paper's expectation.

    Returns
    -------
    torch.Tensor
        A scalar.
    """
    level = losses.mean() if reduction == "batch" else losses
    return (torch.sign(level.detach() - gamma) * level).mean()


def global_gradient_ascent(
    losses: torch.Tensor, isolated: torch.Tensor, bound: float | None = None
) -> torch.Tensor:
    """Global gradient ascent, L_GGA of ABL: E_clean[l] - E_isolated[l].

    Parameters
    ----------
    losses : torch.Tensor of shape (n,)
        Cross-entropy of each sample, in nats.
    isolated : torch.Tensor of shape (n,), bool
        Which samples to unlearn.
    bound : float, default=None
        An isolated sample whose loss has passed the bound has been forgotten and
        pushes no further. None: no bound, as in the paper.

    Returns
    -------
    torch.Tensor
        A scalar. A side without samples counts zero.
    """
    # Sums over where, not over chosen rows: how many there are is known on the device alone, and
    # asking would wait for it. A count of at least one, since the mean of an empty side is nan.
    risen = losses if bound is None else losses.clamp(max=bound)
    return _mean_where(~isolated, losses) - _mean_where(isolated, risen)


def negative_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of negative learning down to chance: max(0, log((1 - 1/K) / (1 - p_y))), in nats.

    The loss -log(1 - p_y) of Kim, Yim, Yun & Kim, NLNL: Negative Learning for Noisy Labels, ICCV
    2019, equation 2, of the label itself, above what it is where the label is as likely as any
    other of the K. There it ends: that the label says nothing is to be learned, not that
    the opposite is true, which would be another backdoor.

    Parameters
    ----------
    logits : torch.Tensor of shape (n, n_classes)
    labels : torch.Tensor of shape (n,), int64

    Returns
    -------
    torch.Tensor of shape (n,)
    """
    # -log(1 - p) in the log odds of p: exact where p is all but 1.
    against = F.softplus(log_odds(logits, labels))
    return (against + math.log1p(-1 / logits.shape[1])).clamp(min=0)


def _mean_where(chosen: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    return torch.where(chosen, losses, 0).sum() / chosen.sum().clamp(min=1)


class CrossEntropy:
    """Plain training: the mean cross-entropy."""

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network(inputs)
        return F.cross_entropy(logits, labels), logits


class HeldLoss:
    """Training whose loss is held at a level: stage one of ABL.

    Parameters
    ----------
    gamma : float
        The level, in nats.
    reduction : {"batch", "sample"}
        Whether the mean of a batch is held or each sample; see `local_gradient_ascent`.
    """

    def __init__(self, gamma: float, reduction: Literal["batch", "sample"]) -> None:
        self._gamma = gamma
        self._reduction: Literal["batch", "sample"] = reduction

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network(inputs)
        losses = sample_losses(logits, labels)
        return local_gradient_ascent(losses, self._gamma, self._reduction), logits


class Unlearning:
    """Descent on the rows that stay, ascent on the isolated ones: stage two of ABL.

    Parameters
    ----------
    isolated : torch.Tensor of shape (n_samples,), bool
        Which rows of the whole training set are isolated.
    bound : float or None
        See `global_gradient_ascent`.
    """

    def __init__(self, isolated: torch.Tensor, bound: float | None) -> None:
        self._isolated = isolated
        self._bound = bound

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network(inputs)
        losses = sample_losses(logits, labels)
        return global_gradient_ascent(losses, self._isolated[index], self._bound), logits


class NegativeLoss:
    """Cross-entropy of most rows, and of some `negative_losses`.

    Parameters
    ----------
    complementary : torch.Tensor of shape (n_samples,), bool
        Rows of the whole training set whose label says what they are not.
    """

    def __init__(self, complementary: torch.Tensor) -> None:
        self._complementary = complementary

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network(inputs)
        positive, negative = sample_losses(logits, labels), negative_losses(logits, labels)
        return torch.where(self._complementary[index], negative, positive).mean(), logits
