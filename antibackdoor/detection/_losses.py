"""Suspicion from the losses that training recorded as it passed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: A score of (n_epochs, n_samples) losses in nats: (n_samples,), higher is more suspect.
LossScore = Callable[[np.ndarray], np.ndarray]

# Below this a float32 cross-entropy has no digits left.
_SMALLEST_LOSS = 1e-8


def last_epoch(losses: np.ndarray) -> np.ndarray:
    """Low loss in the last epoch, the ranking of ABL."""
    return -np.log(losses[-1] + _SMALLEST_LOSS)


def trajectory(losses: np.ndarray) -> np.ndarray:
    """Low loss in all epochs: the mean log-loss, which single epochs scatter around."""
    return -np.log(losses + _SMALLEST_LOSS).mean(axis=0)


LOSS_SCORES: dict[str, LossScore] = {"last_epoch": last_epoch, "trajectory": trajectory}
