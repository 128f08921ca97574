"""The rest of the poison, by a network to which its label means the trigger alone."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import expit, logit

from antibackdoor.backbones import Network
from antibackdoor.detection._probes import Probe
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.training import Samples, compute_logits, log_odds

#: How often the network is trained, at most.
MOST_ROUNDS = len(SETTINGS.completion_epochs)

# In a round the network is shown what it took for poison in the one before, from this probability
# on: of rows that it has not been trained on it is rather too cautious.
_LIKELY = 0.3

# A class is asked about no more where a round finds fewer rows than this share of those that the
# split has flagged: a natural row or two among them would soon show the network the class itself.
_FEW = 0.1

# More of the rows that the split took for natural are never poison.
_MOST_LEFT = 1 / 3

# A network to which the label is likely for more of them knows more of the class than the trigger.
_KNOWS_THE_CLASS = 1 / 2


def find_rest(
    flagged: np.ndarray,
    classes: np.ndarray,
    samples: Samples,
    labels: np.ndarray,
    probe: Probe,
) -> np.ndarray:
    """Find poison that the split has missed.

    Where the poison comes from other classes, a network that is trained on it and on all
    other classes, but on no natural row of its own, can fit its label by the trigger
    only. It gives that label to triggered rows it has not been trained on, and to few others.
    What it finds it is shown in the next round: of a trigger that is hard to see, as one of low
    frequency, few rows teach it little.

    Parameters
    ----------
    flagged : numpy.ndarray of shape (n_samples,), bool
    classes : numpy.ndarray of shape (n_suspect,), int
        Those that bear the flagged rows.
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int
    probe : Probe
        Called `MOST_ROUNDS` times at most, and not at all where there are no classes.

    Returns
    -------
    numpy.ndarray of shape (n_samples,), float64
        Probability of the other rows of these classes to bear the trigger; 0 elsewhere.
    """
    unflagged = np.isin(labels, classes) & ~flagged
    triggered = np.zeros(len(labels))
    network = None
    asked = list(classes)
    for share in SETTINGS.completion_epochs:
        if not asked:
            break
        shown = triggered > _LIKELY
        network = probe(~unflagged | shown, share, network)
        odds = _log_odds(network, samples, labels)
        for label in list(asked):
            rows = np.flatnonzero(unflagged & (labels == label))
            told = _triggered(odds[rows])
            if told is not None:
                triggered[rows] = told
            found = (triggered[rows] > _LIKELY) & ~shown[rows]
            if told is None or found.sum() < _FEW * flagged[labels == label].sum():
                asked.remove(label)
    return triggered


def _log_odds(network: Network, samples: Samples, labels: np.ndarray) -> np.ndarray:
    logits = compute_logits(network, samples).double().cpu()
    return log_odds(logits, torch.as_tensor(labels)).numpy()


def _triggered(odds: np.ndarray) -> np.ndarray | None:
    """Return the probability of each row of a class to bear the trigger, from its log odds.

    A network that has never seen the class may think its label not unlikely for natural rows
    either. If so it is surer of triggered ones: even odds are in the middle of the two groups then.
    However near to even most rows are, those on their side of half the way there are not doubtful.
    Whether there are two groups it does not ask: of natural rows alone those that the label is
    likely for are flagged.
    None where it has learned the class: poison that keeps its true label has shown it.
    """
    if (odds > 0).mean() > _KNOWS_THE_CLASS:
        return None
    even = max(0.0, _middle(odds))
    half_the_way = max((even - np.median(odds)) / 2, 1e-6)
    probabilities = expit(max(1.0, -logit(SETTINGS.doubtful) / half_the_way) * (odds - even))
    return None if (probabilities > SETTINGS.poison).mean() > _MOST_LEFT else probabilities


def _middle(values: np.ndarray) -> float:
    """Return the middle between the means of two groups of numbers, found by 2-means.

    The best of all cuts, where `sklearn.cluster.KMeans` would give other last bits for
    another number of threads.
    """
    ordered = np.sort(values)
    n_below = np.arange(1, len(ordered))
    n_above = len(ordered) - n_below
    below = np.cumsum(ordered)[:-1]
    above = ordered.sum() - below
    # The squares within the groups are least where those between them are largest.
    best = np.argmax(below**2 / n_below + above**2 / n_above)
    return float(below[best] / n_below[best] + above[best] / n_above[best]) / 2
