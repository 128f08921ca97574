"""The networks that a search trains."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from antibackdoor.backbones import Network


class Trained(NamedTuple):
    """A network and the losses recorded as it was trained.

    Attributes
    ----------
    network : Network
    losses : numpy.ndarray of shape (n_epochs, n_samples), float64
        In nats; nan of rows that it was not trained on.
    """

    network: Network
    losses: np.ndarray


class Probe(Protocol):
    """Trains the networks of the search."""

    def __call__(
        self,
        trained_on: np.ndarray,
        share: float,
        network: Network | None = None,
        *,
        name: str = "probe",
        held: bool = False,
        gently: bool = False,
        disturb: bool = False,
        labels: np.ndarray | None = None,
    ) -> Trained:
        """Train a network further, or a new one, on the rows where a mask is set.

        For this share of the epochs of the search, in a phase of this name. Its loss is held, so
        that no row is learned by heart; at half the learning rate, so that what has been learned
        is not thrown over by what is shown beside it; under triggers of our own: or not. The
        labels may be others than those of the data, and of more classes.
        """
