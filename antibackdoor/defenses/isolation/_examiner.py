"""Networks that are asked for their opinion, and from when on it counts."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from antibackdoor.backbones import Network

# A row is taken for poison, or is not trusted, from these probabilities on.
POISON = 0.5
DOUBTFUL = 0.1


class Examiner(Protocol):
    """Trains the networks that are asked for their opinion."""

    def __call__(
        self, trained_on: np.ndarray, share: float, network: Network | None = None
    ) -> Network:
        """Train a network further, or a new one, on the rows where a mask is set.

        For this share of the epochs that the network has had which is searched.
        """
