"""Which labels the head of a frozen body fits: symmetric cross-entropy (Wang et al., ICCV 2019)."""

from __future__ import annotations

import numpy as np
import torch

from antibackdoor.backbones import Network
from antibackdoor.training import sample_losses

# Value of log 0 in the reverse cross-entropy. Wang et al. choose it by data set, and the DBD
# paper names none.
_LOG_ZERO = -4.0


class HeadTraining:
    """Objective of a head on a frozen body: the mean `symmetric_cross_entropy`.

    Parameters
    ----------
    features : torch.Tensor of shape (n_samples, n_features)
        Of all rows.
    """

    def __init__(self, features: torch.Tensor) -> None:
        self._features = features

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value to minimise and the logits; see `Objective`."""
        logits = network.head(self._features[index])
        return symmetric_cross_entropy(logits, labels).mean(), logits


def symmetric_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy and reverse cross-entropy, H(y, p) + H(p, y), of each sample in nats.

    H(p, y) = - sum over k of p_k log y_k, with log 0 = -4. So it is four times the probability
    of all other labels. It is bounded, so that a wrong label has little weight.

    Parameters
    ----------
    logits : torch.Tensor of shape (n, n_classes)
    labels : torch.Tensor of shape (n,), int64

    Returns
    -------
    torch.Tensor of shape (n,)
    """
    losses = sample_losses(logits, labels)
    wrong = -torch.expm1(-losses)
    return losses - _LOG_ZERO * wrong


def pick_credible(losses: np.ndarray, labels: np.ndarray, filtering_rate: float) -> np.ndarray:
    """Pick the rows whose labels are kept.

    Parameters
    ----------
    losses : numpy.ndarray of shape (n_samples,)
    labels : numpy.ndarray of shape (n_samples,)
    filtering_rate : float
        Share of the rows that is not picked: those of the highest loss.

    Returns
    -------
    numpy.ndarray of shape (n_samples,), bool
        The row of lowest loss of every class is always picked.
    """
    order = np.argsort(losses, kind="stable")
    credible = np.zeros(len(losses), dtype=bool)
    credible[order[: round((1 - filtering_rate) * len(losses))]] = True
    # The first of each label in that order.
    _, lowest = np.unique(labels[order], return_index=True)
    credible[order[lowest]] = True
    return credible
