"""Cross-fitting: each row is looked at by the network that did not go on with it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch

from antibackdoor.backbones import Network
from antibackdoor.detection._probes import Probe
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.training import Samples, compute_features, log_odds


@dataclass(frozen=True)
class CrossFit:
    """Two networks, each trained at last on half of the rows of every class.

    Attributes
    ----------
    networks : tuple of two networks
    half : numpy.ndarray of shape (n_samples,), int64
        Which of them a row was shown to: 0 or 1.
    features : tuple of two numpy.ndarray of shape (n_samples, n_features)
        What each of them sees in all rows.
    logits : numpy.ndarray of shape (n_samples, n_classes), float64
        Of the network that a row was not shown to.
    odds : numpy.ndarray of shape (n_samples,), float64
        Log odds of each row's label in these logits, in nats.
    losses : numpy.ndarray of shape (n_epochs, n_samples), float64
        In training, of the networks that a row was shown to, in nats.
    """

    networks: tuple[Network, Network]
    half: np.ndarray
    features: tuple[np.ndarray, np.ndarray]
    logits: np.ndarray
    odds: np.ndarray
    losses: np.ndarray

    @property
    def recognised(self) -> np.ndarray:
        """Rows whose label is likelier than not by these odds, (n_samples,), bool."""
        return self.odds > 0


def cross_fit(samples: Samples, labels: np.ndarray, probe: Probe, seed: int) -> CrossFit:
    """Train a network on each half of the rows.

    A network knows the rows by heart that it was trained on, whatever their label, and its
    features of them show little of why. In those of other rows a trigger is a pattern. Yet half
    of the poison is few rows to learn a small trigger from. So both networks go on from one that
    was shown all rows, its loss held: it has learned the trigger, and no row by heart.

    Parameters
    ----------
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int
    probe : Probe
        Called three times.
    seed : int
        Draws the halves.

    Returns
    -------
    CrossFit
    """
    half = draw_halves(labels, seed)
    first = probe(np.ones(len(labels), dtype=bool), SETTINGS.first_epochs, name="search", held=True)
    one, other = (
        probe(
            half == number, 1 - SETTINGS.first_epochs, copy.deepcopy(first.network), name="search"
        )
        for number in (0, 1)
    )
    features = [compute_features(each.network, samples) for each in (one, other)]
    told = [
        each.network.head(seen).detach().double().cpu().numpy()
        for each, seen in zip((one, other), features, strict=True)
    ]
    logits = np.where(half[:, None] == 1, *told)
    return CrossFit(
        networks=(one.network, other.network),
        half=half,
        features=(features[0].cpu().numpy(), features[1].cpu().numpy()),
        logits=logits,
        odds=log_odds(torch.as_tensor(logits), torch.as_tensor(labels)).numpy(),
        losses=np.concatenate([first.losses, np.where(half == 0, one.losses, other.losses)]),
    )


def draw_halves(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return 0 or 1 for each row: for half of the rows of every class, or one row more."""
    random_state = np.random.RandomState(seed)
    half = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = random_state.permutation(np.flatnonzero(labels == label))
        # The odd row of a class goes to either half in turn.
        half[rows] = (np.arange(len(rows)) + label) % 2
    return half
