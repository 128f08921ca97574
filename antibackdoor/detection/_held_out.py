"""Held-out predictions: what a network says of rows of classes that it has not been shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import softmax
from scipy.stats import entropy

from antibackdoor.detection._cross_fit import CrossFit
from antibackdoor.detection._parts import SMALLEST_CLASS
from antibackdoor.detection._probes import Probe
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.training import Samples, compute_logits

# A prediction that no row has is not impossible.
_SMALLEST = 1e-3

# Rows whose prediction says nothing of what they are.
_MISTAKEN = 0.02

# Of expectation and maximisation.
_STEPS = 60


@dataclass(frozen=True)
class HeldOutPrediction:
    """What a probe says of rows of the classes that it does not know.

    Attributes
    ----------
    known : numpy.ndarray of shape (n_known,), int64
        The classes it knows.
    probabilities : numpy.ndarray of shape (n_samples, n_known)
        Of these, for all rows.
    compared : numpy.ndarray of shape (n_compared,), int64
        Recognised rows of those classes that it was not trained on.
    """

    known: np.ndarray
    probabilities: np.ndarray
    compared: np.ndarray

    @cached_property
    def most(self) -> float:
        """Prediction diversity of the rows to compare with, in nats."""
        return prediction_diversity(self.probabilities[self.compared])

    @cached_property
    def usual(self) -> np.ndarray:
        """Mean prediction of the rows to compare with, shape (n_known,): none of it is 0."""
        mean = self.probabilities[self.compared].mean(axis=0) + _SMALLEST
        return mean / mean.sum()

    @property
    def tells_classes_apart(self) -> bool:
        """Whether the probe knows one class from another at all."""
        return len(self.compared) > 0 and self.most > SETTINGS.knows_nothing

    def diversity(self, rows: np.ndarray) -> float:
        """Prediction diversity of these rows, as a share of that of rows of known classes."""
        return prediction_diversity(self.probabilities[rows]) / self.most

    def shares(self, rows: np.ndarray) -> np.ndarray:
        """Return what these rows are of: the shares of known classes that explain them best.

        By expectation and maximisation. That one of these rows is of a class is as likely as the
        probe says, corrected for how often it says so of the rows to compare with.

        Returns
        -------
        numpy.ndarray of shape (n_known,)
            Sum 1, none of them 0.
        """
        likelihood = self.probabilities[rows] / self.usual
        shares = np.full(len(self.known), 1 / len(self.known))
        for _ in range(_STEPS):
            terms = likelihood * shares
            shares = (terms / terms.sum(axis=1, keepdims=True)).mean(axis=0) + _SMALLEST
            shares /= shares.sum()
        return shares

    def natural_shares(self, rows: np.ndarray) -> np.ndarray:
        """Return what the natural ones of these rows are of, where some are foreign.

        Foreign rows are of the known classes, as often of each as the rows to compare with. What
        the others are of is found by expectation and maximisation of the mixture's likelihood.

        Returns
        -------
        numpy.ndarray of shape (n_known,)
            Sum 1, none of them 0.
        """
        likelihood = self.probabilities[rows] / self.usual
        foreign = 0.5
        natural = np.maximum(self.probabilities[rows].mean(axis=0) - foreign * self.usual, 0)
        natural = (natural + _SMALLEST) / (natural + _SMALLEST).sum()
        for _ in range(_STEPS):
            terms = likelihood * natural
            of_natural = terms.sum(axis=1)
            is_foreign = foreign / (foreign + (1 - foreign) * of_natural)
            foreign = float(np.clip(is_foreign.mean(), 0.01, 0.99))
            natural = ((1 - is_foreign) / of_natural) @ terms + _SMALLEST
            natural /= natural.sum()
        return natural

    def foreignness(self, rows: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Return how much likelier rows are of the known classes as usual than in these shares.

        Returns
        -------
        numpy.ndarray of shape (n_rows,), float64
            In nats.
        """
        # No shares rule a row out: its prediction may be wrong.
        allowed = (1 - _MISTAKEN) * shares + _MISTAKEN * self.usual
        return -np.log((self.probabilities[rows] / self.usual) @ allowed)


def predict_held_out(
    samples: Samples, labels: np.ndarray, fitted: CrossFit, probe: Probe, seed: int
) -> dict[int, HeldOutPrediction]:
    """Have each class predicted by a network that does not know it.

    The classes are shared out among a few groups, those that are taken for one another to
    different ones, and probes are trained without each group.

    Parameters
    ----------
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int
    fitted : CrossFit
        Says which classes are taken for one another, and which rows are recognised.
    probe : Probe
        Called `SETTINGS.n_groups * SETTINGS.n_probes` times at most.
    seed : int
        Draws the rows that no probe is shown, to compare with.

    Returns
    -------
    dict of int to HeldOutPrediction
        For each class.
    """
    is_large = np.bincount(labels) >= SMALLEST_CLASS
    groups = share_out(_confusion(fitted.logits, labels), is_large, SETTINGS.n_groups)
    kept_back = np.random.RandomState(seed).rand(len(labels)) < SETTINGS.compared_share
    predictions = {}
    for group in np.unique(groups):
        known = groups != group
        of_known = known[labels]
        compared = np.flatnonzero(of_known & kept_back & fitted.recognised)
        prediction = _predict(samples, labels, of_known & ~kept_back, compared, known, probe)
        for label in np.flatnonzero(~known):
            predictions[int(label)] = prediction
    return predictions


def prediction_diversity(probabilities: np.ndarray) -> float:
    """Return how much the prediction depends on the row.

    Rows with an attacker's label come from the other classes, and a network that has been
    trained without their label recognises each for what it is. Rows of the unknown class
    it takes all for the one or two known classes that look alike; or, where they are odd ones,
    it is sure of none.

    Parameters
    ----------
    probabilities : numpy.ndarray of shape (n_rows, n_known)
        Of the classes that the network knows.

    Returns
    -------
    float
        Mutual information of row and prediction, in nats, a generalised Jensen-Shannon
        divergence: the entropy of the mean prediction less the mean entropy of the predictions.
        0 where all rows are predicted the same.
    """
    return float(entropy(probabilities.mean(axis=0)) - entropy(probabilities, axis=1).mean())


def share_out(confusion: np.ndarray, is_large: np.ndarray, n_groups: int) -> np.ndarray:
    """Share classes out among groups, those taken for one another to different ones.

    Parameters
    ----------
    confusion : numpy.ndarray of shape (n_classes, n_classes)
        Mean prediction of the rows of each class.
    is_large : numpy.ndarray of shape (n_classes,), bool
        These are shared out first, evenly: a probe without one of the groups knows the others.
    n_groups : int
        At most; of few classes some stay empty.

    Returns
    -------
    numpy.ndarray of shape (n_classes,), int64
        The group of each class.
    """
    alike = confusion + confusion.T
    np.fill_diagonal(alike, 0)
    groups = np.full(len(alike), -1)
    for chosen in (is_large, ~is_large):
        fullest = -(-int(((groups >= 0) | chosen).sum()) // n_groups)
        # First those that are the hardest to place.
        for label in np.argsort(-alike.max(axis=1), kind="stable"):
            if chosen[label]:
                groups[label] = _least_alike(alike[label], groups, n_groups, fullest)
    return groups


def _least_alike(alike: np.ndarray, groups: np.ndarray, n_groups: int, fullest: int) -> int:
    """Return the group with room whose classes are the least alike; of equals, the smallest."""
    inside = [groups == group for group in range(n_groups)]
    cost = [
        (alike[members].sum(), members.sum()) if members.sum() < fullest else (np.inf, 0)
        for members in inside
    ]
    return min(range(n_groups), key=cost.__getitem__)


def _predict(
    samples: Samples,
    labels: np.ndarray,
    trained_on: np.ndarray,
    compared: np.ndarray,
    known: np.ndarray,
    probe: Probe,
) -> HeldOutPrediction:
    """Return the mean of what probes say that do not know some classes.

    One alone may take a few natural rows for rows of many classes, another one takes others.
    """
    told = []
    for _ in range(SETTINGS.n_probes):
        network = probe(trained_on, SETTINGS.probe_epochs, disturb=True).network
        logits = compute_logits(network, samples).double().cpu().numpy()
        told.append(softmax(logits[:, known], axis=1))
    return HeldOutPrediction(np.flatnonzero(known), np.mean(told, axis=0), compared)


def _confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    predicted = softmax(logits, axis=1)
    return np.stack([predicted[labels == label].mean(axis=0) for label in np.unique(labels)])
