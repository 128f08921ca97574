"""The run of an attack that trains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from antibackdoor.training import Run


@dataclass(kw_only=True)
class Study(Run):
    """One call of a learned attack's `fit`: a `Run` on clean rows, in a network's units.

    Attributes
    ----------
    wanted : torch.Tensor of shape (n_samples,), int64
        The attacker's labels, as positions in `classes`; `labels` are the true ones.
    eligible : torch.Tensor, int64
        Indices of the rows that may be poisoned.
    """

    X: np.ndarray
    wanted: torch.Tensor
    eligible: torch.Tensor

    def inputs(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows as inputs of a network."""
        return self.samples.to_inputs(self.samples.stored(rows))

    def draw_rows(self, rows: torch.Tensor, at_most: int) -> torch.Tensor:
        """Draw at most this many of the rows, in random order."""
        order = torch.randperm(len(rows), generator=self.generator, device=self.device)
        return rows[order[:at_most]]
