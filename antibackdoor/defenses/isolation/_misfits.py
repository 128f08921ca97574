"""Rows that a network does not take for their class before it can have learned a trigger."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from antibackdoor.backbones import Network
from antibackdoor.defenses.isolation._testimony import information
from antibackdoor.training import Samples, compute_logits, log_odds

# Of the rows of a class, those that fit least are looked at by tenths, and beside them the better
# half: a class is what most of its rows are.
_SLICE = 0.1
_MOST_SLICES = 5


@dataclass(frozen=True)
class Order:
    """The rows of one class, by how well they fit it.

    Attributes
    ----------
    rows : numpy.ndarray of shape (n_rows,), int64
        Those that fit least first.
    information : float
        How much it depends on the row which other class the first tenth of them is taken for,
        in nats; by the network that they were ordered by.
    """

    rows: np.ndarray
    information: float

    @property
    def slices(self) -> list[np.ndarray]:
        """The tenths of the half that fits worse."""
        length = max(1, round(_SLICE * len(self.rows)))
        return [self.rows[length * i : length * (i + 1)] for i in range(_MOST_SLICES)]

    @property
    def better_half(self) -> np.ndarray:
        return self.rows[len(self.rows) // 2 :]


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
        For each label.
    """
    logits = compute_logits(network, samples).double().cpu()
    odds = log_odds(logits, torch.as_tensor(labels)).numpy()
    orders = {}
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(odds[rows], kind="stable")]
        others = np.arange(logits.shape[1]) != label
        first = Order(rows, 0.0).slices[0]
        orders[int(label)] = Order(rows, information(logits.numpy()[first], others))
    return orders
