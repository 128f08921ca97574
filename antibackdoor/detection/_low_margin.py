"""The low-margin rows of a class: those that an early network does not take for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from antibackdoor.backbones import Network
from antibackdoor.detection._probes import prediction_diversity
from antibackdoor.training import Samples, compute_logits, log_odds

# Of the rows of a class, those of the lowest margins are looked at by tenths, and beside them the
# better half: a class is what most of its rows are. Tenths of fewer rows say nothing.
_N_TENTHS = 10
_SMALLEST_TENTH = 10


@dataclass(frozen=True)
class MarginOrder:
    """The rows of one class, by the log odds of their label.

    Attributes
    ----------
    rows : numpy.ndarray of shape (n_rows,), int64
        Lowest margins first.
    first_diversity : float
        Prediction diversity, in nats, of the first tenth of them under the network that they
        were ordered by.
    """

    rows: np.ndarray
    first_diversity: float

    @property
    def tenths(self) -> list[np.ndarray]:
        """Of the lower half, lowest margins first."""
        return _first_tenths(self.rows)

    @property
    def better_half(self) -> np.ndarray:
        return self.rows[len(self.rows) // 2 :]


def has_tenths(rows: np.ndarray) -> bool:
    """Tell whether a class has rows enough to be ordered: a hundred."""
    return len(rows) >= _N_TENTHS * _SMALLEST_TENTH


def order_by_margin(
    network: Network, samples: Samples, labels: np.ndarray
) -> dict[int, MarginOrder]:
    """Order the rows of each class by the log odds that a network gives their label.

    Poison that comes from other classes is mislabelled, and to a network that has not learned
    the trigger yet it is nothing else: it is taken for what it is. Natural rows of low margin
    are taken for the one or two classes that look alike.

    Parameters
    ----------
    network : Network
        An early one: trained on all rows, for a short time.
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int

    Returns
    -------
    dict of int to MarginOrder
        For each label of a hundred rows or more.
    """
    logits = compute_logits(network, samples).cpu()
    odds = log_odds(logits, torch.as_tensor(labels)).numpy()
    orders = {}
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if not has_tenths(rows):
            continue
        rows = rows[np.argsort(odds[rows], kind="stable")]
        first = logits[_first_tenths(rows)[0]].double().numpy()
        others = np.arange(logits.shape[1]) != label
        orders[int(label)] = MarginOrder(rows, prediction_diversity(first, others))
    return orders


def _first_tenths(rows: np.ndarray) -> list[np.ndarray]:
    length = len(rows) // _N_TENTHS
    return [rows[length * i : length * (i + 1)] for i in range(_N_TENTHS // 2)]
