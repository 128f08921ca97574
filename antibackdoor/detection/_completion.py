"""The rest of the poison, by a network to which its label means the trigger alone."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import expit, logit

from antibackdoor.backbones import Network
from antibackdoor.detection._probes import Probe
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.detection._two_groups import middle_of_two
from antibackdoor.training import Samples, compute_logits, log_odds

# A class is asked about no more where a round changes its mind about fewer rows than this share of
# those that it was shown.
_FEW = 0.02

# A network to which the label is likely for more of the rows of the class that it was not shown
# knows more of the class than the trigger: poison that keeps its true label has shown it.
_MOST = 1 / 2


def find_rest(
    flagged: np.ndarray,
    classes: np.ndarray,
    samples: Samples,
    labels: np.ndarray,
    probe: Probe,
) -> np.ndarray:
    """Find the rest of the poison, of which some rows are known.

    Where the poison comes from other classes, a network that is trained on it and on all
    other classes, but on no natural row of its own, can fit its label by the trigger
    only. It gives that label to triggered rows it has not been trained on, and to few others. The
    next round is a new network, to which these are shown too: one that went on from this would
    not forget a natural row that was among them.

    Parameters
    ----------
    flagged : numpy.ndarray of shape (n_samples,), bool
    classes : numpy.ndarray of shape (n_poisoned,), int
        Those that bear the flagged rows.
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int
    probe : Probe
        Called `SETTINGS.completion_rounds` times at most.

    Returns
    -------
    numpy.ndarray of shape (n_samples,), float64
        Probability of the other rows of these classes to bear the trigger. Nan elsewhere, and in
        classes of which no network knows the trigger alone.
    """
    of_classes = np.isin(labels, classes)
    shown = flagged.copy()
    told = np.full(len(labels), np.nan)
    asked = list(classes)
    for _ in range(SETTINGS.completion_rounds):
        if not asked:
            break
        network = probe(~of_classes | shown, SETTINGS.completion_epochs).network
        odds = _log_odds(network, samples, labels)
        for label in list(asked):
            rows = np.flatnonzero(labels == label)
            was_shown = shown[rows]
            if was_shown.all() or (odds[rows][~was_shown] > 0).mean() > _MOST:
                asked.remove(label)
                continue
            triggered = _triggered(odds[rows], was_shown)
            told[rows] = np.where(flagged[rows], np.nan, triggered)
            shown[rows] = flagged[rows] | (triggered > SETTINGS.poison)
            if (shown[rows] != was_shown).sum() <= _FEW * was_shown.sum():
                asked.remove(label)
    return told


def _log_odds(network: Network, samples: Samples, labels: np.ndarray) -> np.ndarray:
    logits = compute_logits(network, samples).double().cpu()
    return log_odds(logits, torch.as_tensor(labels)).numpy()


def _triggered(odds: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return the probability of each row of a class to bear the trigger, from its log odds.

    A network that has never seen the class may think its label not unlikely for natural rows
    either. If so it is surer of triggered ones: even odds are in the middle of the two groups then.
    However near to even most natural rows are, those on their side of half the way there are not
    doubtful.
    """
    even = max(0.0, middle_of_two(odds))
    natural = odds[~shown & (odds <= even)]
    half_the_way = max((even - np.median(natural)) / 2, 1e-6)
    return expit(max(1.0, -logit(SETTINGS.doubtful) / half_the_way) * (odds - even))
