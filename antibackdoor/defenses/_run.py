"""What one call of fit works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.callback import CallbackContext

from antibackdoor.backbones import Network
from antibackdoor.training import Acceleration, Augmentation, Checkpoints, Samples
from antibackdoor.utils import LazyRows


@dataclass
class Run:
    """One call of fit: its data, its randomness and what it has recorded."""

    X: np.ndarray | LazyRows
    y: np.ndarray
    samples: Samples
    labels: torch.Tensor
    classes: np.ndarray
    context: CallbackContext
    generator: torch.Generator
    new_network: Callable[[], Network]
    #: Digest of all of X, which is read once for it.
    rows_digest: Callable[[], str]
    acceleration: Acceleration
    augmentation: Augmentation | None
    fitted: dict[str, Any]
    #: Which rows the caller knows to be clean, checked; None where fit was not told.
    clean_mask: np.ndarray | None = None
    #: Where the fit is written down; None where it is not.
    checkpoints: Checkpoints | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where the data is."""
        return self.samples.device

    @property
    def every_row(self) -> torch.Tensor:
        """Numbers of all training rows."""
        return torch.arange(len(self.samples), device=self.device)

    def rows(self, mask: np.ndarray) -> torch.Tensor:
        """Return the numbers of the training rows where a mask is set."""
        return torch.as_tensor(np.flatnonzero(mask), device=self.device)

    def draw_seed(self) -> int:
        """Draw a seed, for a library that takes one, from the generator of the fit."""
        highest = np.iinfo(np.int32).max
        drawn = torch.randint(highest, (1,), generator=self.generator, device=self.device)
        return int(drawn)
