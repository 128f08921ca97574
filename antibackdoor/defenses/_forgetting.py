"""When unlearning ends, and whether it harmed clean rows."""

from __future__ import annotations

import copy
from typing import Any

import torch

from antibackdoor.backbones import Network
from antibackdoor.training import Samples, compute_logits, sample_losses


class Forgetting:
    """Watches a network unlearn, without knowledge of the trigger.

    The isolated rows are forgotten once their mean loss reaches a level. Meanwhile trusted rows
    must keep their label. This is checked class by class, since ascent on triggered rows lowers
    the probability of their label, the target class, for all rows.

    Parameters
    ----------
    network : Network
        The network before unlearning.
    samples : Samples
        All training rows.
    labels : torch.Tensor of shape (n_samples,), int64
    isolated, trusted : torch.Tensor of shape (n_rows,), int64
        Indices of the rows to forget and of rows to keep.
    level : float
        Mean loss in nats at which the isolated rows are forgotten.
    tolerance : float
        Largest share of the trusted rows of a class that may lose their label.
    """

    def __init__(
        self,
        network: Network,
        samples: Samples,
        labels: torch.Tensor,
        *,
        isolated: torch.Tensor,
        trusted: torch.Tensor,
        level: float,
        tolerance: float,
    ) -> None:
        self._network = network
        self._samples = samples
        self._labels = labels
        self._isolated = isolated
        self._trusted = trusted
        self._level = level
        self._lowest_recalls = self._trusted_recalls() - tolerance
        self._harmless = self._weights()

    def forgotten_or_harmful(self) -> bool:
        """Return whether to stop; undo the last epoch if it did harm."""
        return self.undo_harm() or self._forgotten()

    def undo_harm(self) -> bool:
        """If these weights do harm, restore the last harmless ones; return whether it did."""
        if (self._trusted_recalls() < self._lowest_recalls).any():
            self._network.load_state_dict(self._harmless)
            return True
        self._harmless = self._weights()
        return False

    def _forgotten(self) -> bool:
        logits = compute_logits(self._network, self._samples, self._isolated)
        losses = sample_losses(logits, self._labels[self._isolated])
        return bool(losses.mean() >= self._level)

    def _weights(self) -> dict[str, Any]:
        return copy.deepcopy(self._network.state_dict())

    def _trusted_recalls(self) -> torch.Tensor:
        logits = compute_logits(self._network, self._samples, self._trusted)
        labels = self._labels[self._trusted]
        kept = (logits.argmax(1) == labels).double()
        n_classes = logits.shape[1]
        # No count is zero, since every class has a trusted row.
        return torch.bincount(labels, kept, n_classes) / torch.bincount(labels, None, n_classes)
