"""Rows that do not look like their class to a network that has not learned any trigger yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from antibackdoor.backbones import Network
from antibackdoor.defenses.isolation._testimony import information
from antibackdoor.training import Samples, compute_logits, log_odds

# Of the rows of a class, those that fit least are looked at by tenths, and beside them the better
# half: a class is what most of its rows are. Tenths of fewer rows say nothing.
_N_TENTHS = 10
_SMALLEST_TENTH = 10


@dataclass(frozen=True)
class Order:
    """The rows of one class, by how well they fit it.

    Attributes
    ----------
    rows : numpy.ndarray of shape (n_rows,), int64
        Those that fit least first.
    oddity : float
        How differently the first tenth of them is taken for other classes, by the network that
        they were ordered by: the mutual information of row and class, in nats.
    """

    rows: np.ndarray
    oddity: float

    @property
    def tenths(self) -> list[np.ndarray]:
        """Of the half that fits worse, those that fit least first."""
        return _first_tenths(self.rows)

    @property
    def better_half(self) -> np.ndarray:
        return self.rows[len(self.rows) // 2 :]


def has_tenths(rows: np.ndarray) -> bool:
    """Tell whether a class has rows enough to be ordered: a hundred."""
    return len(rows) >= _N_TENTHS * _SMALLEST_TENTH


def order_by_fit(network: Network, samples: Samples, labels: np.ndarray) -> dict[int, Order]:
    """Order the rows of each class by the odds that a network gives their label.

    Poison that comes from other classes is mislabelled, and to a network that has not learned
    the trigger yet it is nothing else: it is taken for what it is. Natural rows that fit badly
    are taken for the one or two classes that look alike.

    Parameters
    ----------
    network : Network
        Trained on all rows, for a short time.
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int

    Returns
    -------
    dict of int to Order
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
        orders[int(label)] = Order(rows, information(first, others))
    return orders


def _first_tenths(rows: np.ndarray) -> list[np.ndarray]:
    length = len(rows) // _N_TENTHS
    return [rows[length * i : length * (i + 1)] for i in range(_N_TENTHS // 2)]
