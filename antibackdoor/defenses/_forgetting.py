"""When ascent on the isolated rows ends, and whether it did harm."""

from __future__ import annotations

import copy
from typing import Any

import torch

from antibackdoor.backbones import Network
from antibackdoor.training import Samples, compute_logits, sample_losses


class Forgetting:
    """Watches a network unlearn, with no knowledge of any trigger.

    The isolated rows are forgotten once their mean loss reaches a level. Rows that
    are trusted must keep their label meanwhile: in each class of its own, since
    ascent on triggered rows pushes their label, the target class, down everywhere.

    Parameters
    ----------
    network : Network
        Before it unlearns.
    samples : Samples
        All training rows.
    labels : torch.Tensor of shape (n_samples,), int64
    isolated, trusted : torch.Tensor of shape (n_rows,), int64
        Numbers of the rows to forget and of rows to keep.
    level : float
        Mean loss in nats at which the isolated rows are forgotten.
    tolerance : float
        Share of the trusted rows of a class whose label may be lost.
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
        """Tell whether to end, and take the last epoch back if it did harm."""
        return self.undo_harm() or self._forgotten()

    def undo_harm(self) -> bool:
        """Go back to the last weights known to be harmless, if these are not; tell whether."""
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
        # Every class has a trusted row, so that no count is zero.
        return torch.bincount(labels, kept, n_classes) / torch.bincount(labels, None, n_classes)
