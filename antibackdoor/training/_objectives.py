"""Objectives of a training step: cross-entropy, the ascents of ABL, and negative learning.

An objective takes the network, a batch of inputs, their labels and their row indices. It returns
the value to minimise and the logits.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch.nn import functional as F

from antibackdoor.backbones import Network


class Objective(Protocol):
    """Protocol of the objective that the training loop minimises.

    It gets a network with the weights of the one in training, but the body may be wrapped. If it
    needs more than logits, features and head, such as maps inside the body or weights by name, it
    sets ``takes_network_apart = True`` and gets the network itself.

    Examples
    --------
    >>> import torch.nn.functional as F
    >>> from antibackdoor import UndefendedClassifier
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.detection import flag_nothing
    >>> class Smoothed:  # an objective
    ...     def __call__(self, network, inputs, labels, index):
    ...         logits = network(inputs)
    ...         return F.cross_entropy(logits, labels, label_smoothing=0.1), logits
    >>> class SmoothedClassifier(UndefendedClassifier):
    ...     def _train(self, run):
    ...         network = run.new_network()
    ...         run.phase("train", network, Smoothed(), epochs=1)
    ...         return network, flag_nothing(len(run.samples))
    >>> X, y = load_digits_images()
    >>> len(SmoothedClassifier(random_state=0).fit(X[:200], y[:200]).history_)
    1
    """

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value to minimise, a scalar, and the logits (n, n_classes)."""


@runtime_checkable
class StatefulObjective(Protocol):
    """Protocol of an objective with a state that changes from step to step."""

    def state(self) -> dict[str, Any]:
        """Return the state, as tensors in dicts and lists."""

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a state of an equal objective."""


def sample_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each sample, in nats, shape (n,).

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.training import sample_losses
    >>> sample_losses(torch.zeros(1, 2), torch.tensor([0]))
    tensor([0.6931])
    """
    return F.cross_entropy(logits, labels, reduction="none")


def log_odds(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logarithm of the odds of each sample's label against all others, in nats, shape (n,).

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.training import log_odds
    >>> log_odds(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    tensor([2.])
    """
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
        ``"batch"``: l is the mean of the batch; the mean is held while single samples may fall
        far below gamma. ``"sample"``: l is the loss of each sample, as in the paper's
        expectation.

    Returns
    -------
    torch.Tensor
        A scalar.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.training import local_gradient_ascent
    >>> local_gradient_ascent(torch.tensor([0.25, 0.25]), gamma=0.5)
    tensor(-0.2500)
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
        Ascent on an isolated sample stops once its loss exceeds the bound. None: no bound, as in
        the paper.

    Returns
    -------
    torch.Tensor
        A scalar. A term without samples is zero.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.training import global_gradient_ascent
    >>> global_gradient_ascent(torch.tensor([1.0, 3.0]), torch.tensor([False, True]))
    tensor(-2.)
    """
    # Sums with torch.where instead of selected rows: reading their number would wait for the
    # device. The count is at least one, since the mean of no rows is nan.
    risen = losses if bound is None else losses.clamp(max=bound)
    return _mean_where(~isolated, losses) - _mean_where(isolated, risen)


def negative_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of negative learning down to chance: max(0, log((1 - 1/K) / (1 - p_y))), in nats.

    This is -log(1 - p_y), equation 2 of Kim, Yim, Yun & Kim, NLNL: Negative Learning for Noisy
    Labels, ICCV 2019, for the label itself, minus its value at chance, p_y = 1/K. Below chance it
    is zero: the network shall learn to ignore the label, not to exclude it, which would be
    another backdoor.

    Parameters
    ----------
    logits : torch.Tensor of shape (n, n_classes)
    labels : torch.Tensor of shape (n,), int64

    Returns
    -------
    torch.Tensor of shape (n,)

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.training import negative_losses
    >>> negative_losses(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    tensor([1.4338])
    >>> negative_losses(torch.tensor([[-2.0, 0.0]]), torch.tensor([0]))  # below chance
    tensor([0.])
    """
    # -log(1 - p) from the log odds of p: exact for p near 1.
    against = F.softplus(log_odds(logits, labels))
    return (against + math.log1p(-1 / logits.shape[1])).clamp(min=0)


def _mean_where(chosen: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    return torch.where(chosen, losses, 0).sum() / chosen.sum().clamp(min=1)


class CrossEntropy:
    """Plain training: the mean cross-entropy.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.backbones import build_network
    >>> from antibackdoor.training import CrossEntropy
    >>> network = build_network("mlp", (4,), 3, mean=torch.zeros(4), scale=torch.ones(4))
    >>> value, logits = CrossEntropy()(
    ...     network, torch.zeros(2, 4), torch.tensor([0, 1]), torch.arange(2)
    ... )
    >>> value.shape, logits.shape
    (torch.Size([]), torch.Size([2, 3]))
    """

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network(inputs)
        return F.cross_entropy(logits, labels), logits


class HeldLoss:
    """Objective that holds the loss at a level: local gradient ascent, stage one of ABL.

    Parameters
    ----------
    gamma : float
        The level, in nats.
    reduction : {"batch", "sample"}
        Whether to hold the mean of a batch or each sample; see `local_gradient_ascent`.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.backbones import build_network
    >>> from antibackdoor.training import HeldLoss
    >>> network = build_network("mlp", (4,), 3, mean=torch.zeros(4), scale=torch.ones(4))
    >>> value, logits = HeldLoss(0.5, "batch")(
    ...     network, torch.zeros(2, 4), torch.tensor([0, 1]), torch.arange(2)
    ... )
    >>> value.shape, logits.shape
    (torch.Size([]), torch.Size([2, 3]))
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
    """Objective with descent on most rows and ascent on the isolated ones: stage two of ABL.

    Parameters
    ----------
    isolated : torch.Tensor of shape (n_samples,), bool
        Mask of the isolated rows of the whole training set.
    bound : float or None
        See `global_gradient_ascent`.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.backbones import build_network
    >>> from antibackdoor.training import Unlearning
    >>> network = build_network("mlp", (4,), 3, mean=torch.zeros(4), scale=torch.ones(4))
    >>> isolated = torch.tensor([True, False])
    >>> value, logits = Unlearning(isolated, bound=10.0)(
    ...     network, torch.zeros(2, 4), torch.tensor([0, 1]), torch.arange(2)
    ... )
    >>> logits.shape
    torch.Size([2, 3])
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
    """Objective with cross-entropy for most rows and `negative_losses` for some.

    Parameters
    ----------
    complementary : torch.Tensor of shape (n_samples,), bool
        Mask of the rows of the whole training set whose label is complementary: not their class.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.backbones import build_network
    >>> from antibackdoor.training import NegativeLoss
    >>> network = build_network("mlp", (4,), 3, mean=torch.zeros(4), scale=torch.ones(4))
    >>> complementary = torch.tensor([True, False])
    >>> value, logits = NegativeLoss(complementary)(
    ...     network, torch.zeros(2, 4), torch.tensor([0, 1]), torch.arange(2)
    ... )
    >>> logits.shape
    torch.Size([2, 3])
    """

    def __init__(self, complementary: torch.Tensor) -> None:
        self._complementary = complementary

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network(inputs)
        positive, negative = sample_losses(logits, labels), negative_losses(logits, labels)
        return torch.where(self._complementary[index], negative, positive).mean(), logits
