"""The three terms of CBD: sample weights, independence and the bottleneck."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from antibackdoor.backbones import Network
from antibackdoor.training import negative_losses, sample_losses

# Added to losses, so that ratio and logarithm of zero losses stay finite.
_SMALLEST_LOSS = 1e-8


def relative_loss(backdoored: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Weight of each sample, w = l(f_B) / (l(f_B) + l(f_C)), before normalisation.

    Parameters
    ----------
    backdoored, clean : torch.Tensor of shape (n,)
        Cross-entropy under f_B and f_C, in nats.

    Returns
    -------
    torch.Tensor of shape (n,)
        Between 0 and 1. Near 0 if f_B fits much better than f_C; 0.5 if both losses are zero.
    """
    return (backdoored + _SMALLEST_LOSS) / (backdoored + clean + 2 * _SMALLEST_LOSS)


def normalise(weights: torch.Tensor) -> torch.Tensor:
    """Scale weights to a mean of 1 over the batch, as CBD's cross-entropy takes them."""
    return weights / weights.mean()


def keep_above(weights: torch.Tensor, share: float) -> torch.Tensor:
    """Give weight 0 to samples far below the median weight and 1 to the others.

    A small weight only delays learning a sample: once the others are fitted, its gradient is the
    largest one left. The median is the weight of an ordinary sample at any scale of the losses.

    Parameters
    ----------
    weights : torch.Tensor of shape (n,)
        Not negative.
    share : float
        Samples below this share of the median are rejected; between 0 and 1.

    Returns
    -------
    torch.Tensor of shape (n,)
    """
    return (weights >= share * weights.median()).to(weights.dtype)


class LossTrajectory:
    """Geometric mean of each sample's losses over the epochs.

    A single loss is noisy, and the loss of a poisoned sample vanishes once the network has
    learned the backdoor. The mean over the epochs still shows the difference.
    """

    def __init__(self, n_samples: int, device: torch.device) -> None:
        self._log_sums = torch.zeros(n_samples, dtype=torch.float64, device=device)
        self._counts = torch.zeros(n_samples, dtype=torch.float64, device=device)

    def add(self, index: torch.Tensor, losses: torch.Tensor) -> None:
        """Add losses, in nats, of rows; no row may occur twice."""
        self._log_sums[index] += torch.log(losses.detach().double() + _SMALLEST_LOSS)
        self._counts[index] += 1

    def times_seen(self, index: torch.Tensor) -> float:
        """Return how many losses the first of these rows has."""
        return float(self._counts[index[0]])

    def mean(self, index: torch.Tensor) -> torch.Tensor:
        """Return the mean of each row, in nats; every row must have a loss."""
        return torch.exp(self._log_sums[index] / self._counts[index])

    def state(self) -> dict[str, torch.Tensor]:
        """Return the sums and counts so far, not copied."""
        return {"log_sums": self._log_sums, "counts": self._counts}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the state of another one for as many samples."""
        self._log_sums.copy_(state["log_sums"])
        self._counts.copy_(state["counts"])


class _UnitSpectralNorm(nn.Module):
    """Divide a matrix by its largest singular value, exactly.

    Power iteration, as in `torch.nn.utils.parametrizations.spectral_norm`, lags behind weights
    that change and lets the norm exceed one by some per cent.
    """

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / torch.linalg.matrix_norm(weight, 2)


class Discriminator(nn.Module):
    """Distinguishes true pairs of features from shuffled ones.

    Two linear layers, each of spectral norm one, with a ReLU between them: the discriminator is
    Lipschitz continuous with constant one.

    Parameters
    ----------
    n_clean, n_backdoored : int
        Lengths of the two feature vectors.
    """

    def __init__(self, n_clean: int, n_backdoored: int, n_hidden: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_clean + n_backdoored, n_hidden)
        self.output = nn.Linear(n_hidden, 1)
        for layer in (self.hidden, self.output):
            parametrize.register_parametrization(layer, "weight", _UnitSpectralNorm())

    def forward(self, clean: torch.Tensor, backdoored: torch.Tensor) -> torch.Tensor:
        """Return a score for each pair, shape (n,)."""
        pairs = torch.cat([clean, backdoored], dim=1)
        return self.output(F.relu(self.hidden(pairs))).squeeze(1)


def dependence(
    discriminator: nn.Module,
    clean: torch.Tensor,
    backdoored: torch.Tensor,
    order: torch.Tensor,
) -> torch.Tensor:
    """Estimate how much two features depend on each other.

    The dual form of the Wasserstein distance between the joint distribution and the
    product of its margins, for one discriminator: E_p(z,r)[D] - E_p(z)p(r)[D].

    Parameters
    ----------
    discriminator : torch.nn.Module
        D, called with two batches of features.
    clean : torch.Tensor of shape (n, n_clean)
        z, of f_C.
    backdoored : torch.Tensor of shape (n, n_backdoored)
        r, of f_B.
    order : torch.Tensor of shape (n,), int64
        A permutation that shuffles the pairs.

    Returns
    -------
    torch.Tensor
        A scalar.
    """
    # One call for both, since every call computes the spectral norms anew.
    together = torch.cat([backdoored, backdoored[order]])
    joint, apart = discriminator(clean.repeat(2, 1), together).chunk(2)
    return joint.mean() - apart.mean()


class Bottleneck(nn.Module):
    """Gaussian noise on the features, with a bound on the information they keep of the input.

    The features are the mean of p(z|x); its variance is learned from them. The noise starts
    small compared with features of the order of one.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.log_variance = nn.Linear(n_features, n_features)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, -4.0)

    def forward(
        self, features: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noisy features (n, n_features) and the bound on I(Z; X), a scalar in nats."""
        log_variance = self.log_variance(features)
        noise = torch.empty_like(features).normal_(generator=generator)
        noisy = features + noise * torch.exp(0.5 * log_variance)
        return noisy, information_bound(features, log_variance)


def information_bound(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Variational upper bound on I(Z; X): mean over x of KL( p(z|x) || N(0, 1) ), in nats.

    Parameters
    ----------
    mean, log_variance : torch.Tensor of shape (n, n_features)
        Of the Gaussian p(z|x) of each sample.

    Returns
    -------
    torch.Tensor
        A scalar.
    """
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return divergence.sum(dim=1).mean()


class CausalObjective:
    """What f_C minimises: - I(Z; Y) + beta I(Z; X) + lambda I(Z; R).

    f_B is frozen, so its features and losses are computed beforehand for all rows.

    Parameters
    ----------
    backdoored_features : torch.Tensor of shape (n_samples, n_features)
        R, of all rows.
    backdoored_losses : torch.Tensor of shape (n_samples,)
        Cross-entropy of f_B on all rows, in nats.
    discriminator : Discriminator or None
        None: no term I(Z; R).
    independence : float
        Factor lambda of I(Z; R).
    bottleneck : Bottleneck or None
        None: no term I(Z; X).
    beta : float
        Factor of I(Z; X).
    reweight : bool
        Whether the cross-entropy, the term - I(Z; Y), is weighted.
    trajectory : LossTrajectory or None
        Collects the losses of f_C; their mean gives the weights. None: the loss of the step
        gives them.
    rejection : float
        The share of `keep_above`, 0 for none; only with a trajectory.
    soft_epochs : int
        Epochs before any sample is rejected.
    complementary : torch.Tensor of shape (n_samples,), bool
        Rows whose label is wrong, for negative learning: f_C shall give their label no more than
        chance.
    """

    def __init__(
        self,
        *,
        backdoored_features: torch.Tensor,
        backdoored_losses: torch.Tensor,
        discriminator: Discriminator | None,
        independence: float,
        bottleneck: Bottleneck | None,
        beta: float,
        reweight: bool,
        trajectory: LossTrajectory | None,
        rejection: float,
        soft_epochs: int,
        complementary: torch.Tensor,
        generator: torch.Generator,
    ) -> None:
        self._features = backdoored_features
        self._losses = backdoored_losses
        self._discriminator = discriminator
        self._independence = independence
        self._bottleneck = bottleneck
        self._beta = beta
        self._reweight = reweight
        self._trajectory = trajectory
        self._rejection = rejection
        self._soft_epochs = soft_epochs
        self._complementary = complementary
        self._generator = generator
        if discriminator is not None:
            self._optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value to minimise and the logits; see `Objective`."""
        features = network.features(inputs)
        value = torch.zeros((), dtype=features.dtype, device=features.device)
        if self._discriminator is not None:
            value = value + self._independence * self._dependence(features, index)
        if self._bottleneck is not None:
            features, information = self._bottleneck(features, self._generator)
            value = value + self._beta * information
        logits = network.head(features)
        losses = sample_losses(logits, labels)
        if self._trajectory is not None:
            self._trajectory.add(index, losses)
        if self._reweight:
            losses = losses * self._weights(losses.detach(), index)
        losses = torch.where(self._complementary[index], negative_losses(logits, labels), losses)
        return value + losses.mean(), logits

    def state(self) -> dict[str, Any]:
        """Return the state that changes from step to step; see `StatefulObjective`."""
        state: dict[str, Any] = {}
        if self._discriminator is not None:
            state["discriminator"] = self._discriminator.state_dict()
            state["optimizer"] = self._optimizer.state_dict()
        if self._trajectory is not None:
            state["trajectory"] = self._trajectory.state()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state of an equal objective."""
        if self._discriminator is not None:
            self._discriminator.load_state_dict(state["discriminator"])
            self._optimizer.load_state_dict(state["optimizer"])
        if self._trajectory is not None:
            self._trajectory.restore(state["trajectory"])

    def _weights(self, losses: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        backdoored = self._losses[index]
        if self._trajectory is None:
            return normalise(relative_loss(backdoored, losses))
        weights = relative_loss(backdoored, self._trajectory.mean(index).to(losses.dtype))
        if self._rejection > 0 and self._trajectory.times_seen(index) > self._soft_epochs:
            weights = keep_above(weights, self._rejection)
        return normalise(weights)

    def _dependence(self, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        assert self._discriminator is not None
        backdoored = self._features[index]
        order = torch.randperm(len(index), generator=self._generator, device=self._generator.device)
        # The discriminator is trained first, on detached features.
        estimate = dependence(self._discriminator, features.detach(), backdoored, order)
        self._optimizer.zero_grad(set_to_none=True)
        (-estimate).backward()
        self._optimizer.step()
        return dependence(self._discriminator, features, backdoored, order)
