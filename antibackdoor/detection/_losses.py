"""Suspicion scores from the losses recorded in training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: From losses in nats, (n_epochs, n_samples), to scores, (n_samples,): higher is more suspect.
LossScore = Callable[[np.ndarray], np.ndarray]

# The smallest loss that a float32 cross-entropy resolves.
_SMALLEST_LOSS = 1e-8


def last_epoch(losses: np.ndarray) -> np.ndarray:
    """Score by a low loss in the last epoch: the ranking of ABL."""
    return -np.log(losses[-1] + _SMALLEST_LOSS)


def trajectory(losses: np.ndarray) -> np.ndarray:
    """Score by a low mean log-loss over all epochs, which is less noisy than a single epoch."""
    return -np.log(losses + _SMALLEST_LOSS).mean(axis=0)


LOSS_SCORES: dict[str, LossScore] = {"last_epoch": last_epoch, "trajectory": trajectory}
