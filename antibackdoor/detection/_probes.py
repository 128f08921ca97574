"""The networks that the search trains."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from antibackdoor.backbones import Network


class Trained(NamedTuple):
    """A network and the losses recorded in its training.

    Attributes
    ----------
    network : Network
    losses : numpy.ndarray of shape (n_epochs, n_samples), float64
        In nats; nan for rows that it was not trained on.
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
        """Train a new network, or `network` further, on the rows where `trained_on` is set.

        The phase is called `name` and takes `share` of the epochs of the search. `held` holds the
        loss up, so that no single row is memorised. `gently` halves the learning rate, so that
        the network keeps what it has learned. `disturb` trains under random triggers. `labels`
        replace those of the data, and may have more classes.
        """
