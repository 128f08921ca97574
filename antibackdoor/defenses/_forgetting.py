"""When ascent on the isolated rows ends."""

from __future__ import annotations

import copy
from typing import Any

import torch

from antibackdoor.backbones import Network
from antibackdoor.training import Samples, compute_logits


class ForgettingRule:
    """End unlearning once the isolated rows are forgotten, or other rows would be.

    A row is forgotten when the network no longer gives its label. The rule asks
    after each epoch and needs to know nothing of any trigger:

    - no more isolated rows keep their label than guessing would give: done;
    - the accuracy on the trusted rows fell by more than the tolerance: the
      weights go back to the last epoch at which it had not, and that is the end.

    Parameters
    ----------
    network : Network
        The network that is unlearning.
    samples : Samples
        All training rows.
    labels : torch.Tensor of shape (n_samples,), int64
    isolated, trusted : torch.Tensor of shape (n_rows,), int64
        Numbers of the rows to forget and of rows to keep.
    tolerance : float
        Share of the trusted rows whose label may be lost.
    """

    def __init__(
        self,
        network: Network,
        samples: Samples,
        labels: torch.Tensor,
        *,
        isolated: torch.Tensor,
        trusted: torch.Tensor,
        tolerance: float,
    ) -> None:
        self._network = network
        self._samples = samples
        self._labels = labels
        self._isolated = isolated
        self._trusted = trusted
        self._chance = 1 / network.head.out_features
        self._last_good = self._weights()
        self._lowest_accuracy = self._accuracy(trusted) - tolerance

    def __call__(self) -> bool:
        """Return whether to end."""
        if self._accuracy(self._trusted) < self._lowest_accuracy:
            self._network.load_state_dict(self._last_good)
            return True
        self._last_good = self._weights()
        return self._accuracy(self._isolated) <= self._chance

    def _weights(self) -> dict[str, Any]:
        return copy.deepcopy(self._network.state_dict())

    def _accuracy(self, rows: torch.Tensor) -> float:
        logits = compute_logits(self._network, self._samples, rows)
        return float((logits.argmax(1) == self._labels[rows]).double().mean())
