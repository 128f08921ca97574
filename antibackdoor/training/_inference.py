"""Asking a trained network about many rows."""

from __future__ import annotations

import torch

from antibackdoor.backbones import Network
from antibackdoor.training._objectives import sample_losses
from antibackdoor.training._samples import Samples


@torch.no_grad()
def compute_logits(
    network: Network, samples: Samples, rows: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the logits of rows, all by default, in evaluation mode: (n_rows, n_classes)."""
    network.eval()
    return torch.cat([network(inputs) for inputs in samples.chunks(rows)])


@torch.no_grad()
def compute_features(network: Network, samples: Samples) -> torch.Tensor:
    """Return the features of all rows, shape (n_samples, n_features), in evaluation mode."""
    network.eval()
    return torch.cat([network.features(inputs) for inputs in samples.chunks()])


def compute_losses(network: Network, samples: Samples, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of all rows, shape (n_samples,), in nats."""
    return sample_losses(compute_logits(network, samples), labels)
