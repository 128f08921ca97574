"""The rest of the poison, by networks to which poison is a class of its own."""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy.special import expit

from antibackdoor.detection._cross_fit import CrossFit
from antibackdoor.detection._probes import Probe
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.training import Samples, compute_logits, log_odds

#: Of all networks that complete the poison.
COMPLETION_TURNS = 2 * SETTINGS.completion_turns


def find_rest(
    suspicion: np.ndarray,
    classes: np.ndarray,
    samples: Samples,
    labels: np.ndarray,
    fitted: CrossFit,
    probe: Probe,
) -> np.ndarray:
    """Find the rest of the poison, of which some rows are known.

    A network learns the known poison of a class as one class, and those of its other rows that are
    the least suspect as another. What tells the two apart is the trigger, wherever the
    poison comes from. What it finds is shown to it too, turn by turn. Rows in doubt are not
    shown, for a triggered row that is called natural teaches that the trigger says nothing. Both
    cross-fitted networks are trained further so, one after the other: they know the trigger, and
    the second begins from what the first has found.

    Parameters
    ----------
    suspicion : numpy.ndarray of shape (n_samples,)
        Probability to be poison; above `SETTINGS.poison` it is taken for known.
    classes : numpy.ndarray of shape (n_poisoned,), int
        Those that bear the known poison.
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int
    fitted : CrossFit
        Copies of its networks are trained.
    probe : Probe
        Called `COMPLETION_TURNS` times.

    Returns
    -------
    numpy.ndarray of shape (n_samples,), float64
        Probability of the other rows of these classes to bear the trigger; nan elsewhere.
    """
    known = suspicion > SETTINGS.poison
    rows = [np.flatnonzero((labels == label) & ~known) for label in classes]
    told = np.full(len(labels), np.nan)
    for among in rows:
        told[among] = suspicion[among]
    n_classes = int(labels.max()) + 1
    for turn, share_shown in enumerate(np.linspace(*SETTINGS.shown_natural, COMPLETION_TURNS)):
        shown, called = ~np.isin(labels, classes) | known, labels.copy()
        for number, (label, among) in enumerate(zip(classes, rows, strict=True)):
            called[(labels == label) & known] = n_classes + number
            found = told[among] > SETTINGS.poison
            called[among[found]] = n_classes + number
            shown[among[found]] = True
            shown[_least(among[~found], told, share_shown)] = True
        which, further = divmod(turn, SETTINGS.completion_turns)
        if not further:
            network = copy.deepcopy(fitted.networks[which])
        share = SETTINGS.completion_further if further else SETTINGS.completion_epochs
        network = probe(shown, share, network, gently=True, labels=called).network
        logits = compute_logits(network, samples).double().cpu()
        for number, among in enumerate(rows):
            poison = torch.full((len(among),), n_classes + number)
            told[among] = expit(log_odds(logits[among], poison).numpy())
    return told


def _least(rows: np.ndarray, told: np.ndarray, share: float) -> np.ndarray:
    """Return that share of some rows that is told to be the least likely poison."""
    return rows[np.argsort(told[rows], kind="stable")[: int(share * len(rows))]]
