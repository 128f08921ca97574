"""Held-out predictions: what a network says of rows of classes that it has not been shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import logsumexp, softmax
from scipy.stats import entropy

from antibackdoor.backbones import Network
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.training import Samples, compute_logits


class Probe(Protocol):
    """Trains the networks of the search that come after the first."""

    def __call__(
        self, trained_on: np.ndarray, share: float, network: Network | None = None
    ) -> Network:
        """Train a network further, or a new one, on the rows where a mask is set.

        For this share of the epochs that the first network has had.
        """


@dataclass(frozen=True)
class HeldOutPrediction:
    """What a probe says of all rows.

    Attributes
    ----------
    logits : numpy.ndarray of shape (n_samples, n_classes)
    known : numpy.ndarray of shape (n_classes,), bool
        Classes that the probe was trained on.
    most : float
        Prediction diversity, in nats, of rows of these classes that it was not trained on.
    """

    logits: np.ndarray
    known: np.ndarray
    most: float

    @property
    def tells_classes_apart(self) -> bool:
        """Whether the probe knows one class from another at all."""
        return self.most > SETTINGS.knows_nothing

    def diversity(self, rows: np.ndarray) -> float:
        """Prediction diversity of these rows, as a share of that of rows of known classes."""
        return prediction_diversity(self.logits[rows], self.known) / self.most

    def margins(self, rows: np.ndarray) -> np.ndarray:
        """Confidence margin of each of these rows, in nats."""
        return confidence_margin(self.logits[rows], self.known)


def predict_held_out(
    held_out: np.ndarray, samples: Samples, labels: np.ndarray, probe: Probe, seed: int
) -> HeldOutPrediction:
    """Train a probe on all classes but some, and predict all rows.

    Parameters
    ----------
    held_out : numpy.ndarray of shape (n_held_out,), int
        Classes that the probe is not shown.
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int
    probe : Probe
    seed : int
        Draws the rows of known classes that it is not shown, to compare with.

    Returns
    -------
    HeldOutPrediction
    """
    known = np.ones(int(labels.max()) + 1, dtype=bool)
    known[held_out] = False
    trained_on = known[labels]
    compared = _draw_compared(np.flatnonzero(trained_on), seed)
    trained_on[compared] = False
    network = probe(trained_on, SETTINGS.probe_epochs)
    logits = compute_logits(network, samples).double().cpu().numpy()
    return HeldOutPrediction(logits, known, prediction_diversity(logits[compared], known))


def _draw_compared(of_known: np.ndarray, seed: int) -> np.ndarray:
    wanted = max(SETTINGS.compared_share * len(of_known), SETTINGS.fewest_compared)
    n_compared = int(min(wanted, len(of_known) / 2))
    return np.random.RandomState(seed).permutation(of_known)[:n_compared]


def prediction_diversity(logits: np.ndarray, known: np.ndarray) -> float:
    """Return how much the prediction depends on the row, among the known classes.

    Rows with an attacker's label come from the other classes, and a network that has been
    trained without their label recognises each for what it is. Rows of the unknown class
    it takes all for the one or two known classes that look alike; or, where they are odd ones,
    it is sure of none.

    Parameters
    ----------
    logits : numpy.ndarray of shape (n_rows, n_classes)
    known : numpy.ndarray of shape (n_classes,), bool
        Classes that are looked at: those that the network has been trained on, or some of them.

    Returns
    -------
    float
        Mutual information of row and prediction, in nats, a generalised Jensen-Shannon
        divergence: the entropy of the mean prediction less the mean entropy of the predictions.
        0 where all rows are predicted the same.
    """
    predicted = softmax(logits[:, known], axis=1)
    return float(entropy(predicted.mean(axis=0)) - entropy(predicted, axis=1).mean())


def confidence_margin(logits: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return how sure a network is of one of the classes it knows.

    It is surer of rows that are of these classes, whatever their label, than of rows of
    a class it has never seen; how much, depends on how good a network it is.

    Parameters
    ----------
    logits : numpy.ndarray of shape (n_rows, n_classes)
    known : numpy.ndarray of shape (n_classes,), bool

    Returns
    -------
    numpy.ndarray of shape (n_rows,)
        Logarithm of the odds of the likeliest known class against the other known ones.
    """
    ranked = np.sort(logits[:, known], axis=1)
    return ranked[:, -1] - logsumexp(ranked[:, :-1], axis=1)
