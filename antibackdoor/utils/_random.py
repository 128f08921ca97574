"""Randomness that comes from `random_state` and touches no global generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def draw_seed(random_state: np.random.RandomState) -> int:
    """Draw a seed for one torch generator."""
    return int(random_state.randint(np.iinfo(np.int32).max))


@contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them after it.

    Weight initialisation and dropout draw from the global generators and take
    no generator of ours, so these are lent to the block.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
