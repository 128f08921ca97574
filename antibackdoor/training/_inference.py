"""Prediction for many rows; in a fit by several processes each computes a share."""

from __future__ import annotations

from collections.abc import Callable

import torch

from antibackdoor.backbones import Network
from antibackdoor.training._objectives import sample_losses
from antibackdoor.training._samples import Samples
from antibackdoor.training._split import by_rows


@torch.no_grad()
def compute_logits(
    network: Network, samples: Samples, rows: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the logits of rows, all by default, in evaluation mode: (n_rows, n_classes).

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from antibackdoor.backbones import build_network
    >>> from antibackdoor.training import Samples, compute_logits
    >>> samples = Samples(np.zeros((5, 4)), None, torch.device("cpu"), torch.float32)
    >>> network = build_network("mlp", (4,), 3, mean=torch.zeros(4), scale=torch.ones(4))
    >>> compute_logits(network, samples).shape
    torch.Size([5, 3])
    """
    network.eval()
    return _by_chunks(network, samples, rows)


@torch.no_grad()
def compute_features(network: Network, samples: Samples) -> torch.Tensor:
    """Return the features of all rows, shape (n_samples, n_features), in evaluation mode.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from antibackdoor.backbones import build_network
    >>> from antibackdoor.training import Samples, compute_features
    >>> samples = Samples(np.zeros((5, 4)), None, torch.device("cpu"), torch.float32)
    >>> network = build_network("mlp", (4,), 3, mean=torch.zeros(4), scale=torch.ones(4))
    >>> compute_features(network, samples).shape
    torch.Size([5, 128])
    """
    network.eval()
    return _by_chunks(network.features, samples)


def compute_losses(network: Network, samples: Samples, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of all rows, shape (n_samples,), in nats.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from antibackdoor.backbones import build_network
    >>> from antibackdoor.training import Samples, compute_losses
    >>> samples = Samples(np.zeros((5, 4)), None, torch.device("cpu"), torch.float32)
    >>> network = build_network("mlp", (4,), 3, mean=torch.zeros(4), scale=torch.ones(4))
    >>> compute_losses(network, samples, torch.zeros(5, dtype=torch.int64)).shape
    torch.Size([5])
    """
    return sample_losses(compute_logits(network, samples), labels)


def _by_chunks(
    ask: Callable[[torch.Tensor], torch.Tensor], samples: Samples, rows: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the answers about rows, all by default, in one tensor."""
    if rows is None:
        rows = torch.arange(len(samples), device=samples.device)
    return by_rows(lambda some: _ask(ask, samples, some), rows)


def _ask(
    ask: Callable[[torch.Tensor], torch.Tensor], samples: Samples, rows: torch.Tensor
) -> torch.Tensor:
    answers, n_done = torch.empty(0), 0
    for inputs in samples.chunks(rows):
        answer = ask(inputs)
        if n_done == 0:
            # Filled part by part, since a list of the parts would double the memory.
            answers = answer.new_empty((len(rows), *answer.shape[1:]))
        answers[n_done : n_done + len(answer)] = answer
        n_done += len(answer)
    return answers
