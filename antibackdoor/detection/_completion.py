"""The rest of the poison, by networks to which poison is a class of its own."""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy.special import expit

from antibackdoor.backbones import Network
from antibackdoor.detection._cross_fit import CrossFit
from antibackdoor.detection._probes import Probe
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.training import Samples, compute_logits, log_odds

#: How often a network is trained further, at most.
COMPLETION_TURNS = 2 + 2 * SETTINGS.completion_turns


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
    the least suspect as another. What tells the two apart is the trigger, wherever the poison comes
    from. Rows in doubt are not shown, for a triggered row that is called natural teaches that the
    trigger says nothing. The cross-fitted networks are trained further so: they know the trigger.

    First each is shown half of the rows, and asked about the other half, known poison too. Natural
    rows among it would draw in those that look like them, turn by turn. So the few that are surely
    natural by this are not known any more. Then the networks are shown all rows, one after the
    other, in turns. What one finds is shown in the next turn, and the second network goes on from
    what the first has found. A network whose turn finds next to nothing more has no further one:
    natural rows that look like poison would be all that is left to be found.

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
        Called `COMPLETION_TURNS` times at most.

    Returns
    -------
    numpy.ndarray of shape (n_samples,), float64
        Probability of the rows of these classes to bear the trigger; nan of those that are known,
        and elsewhere.
    """
    known = suspicion > SETTINGS.poison
    fewest, most = SETTINGS.shown_natural

    def turn(
        network: Network,
        told: np.ndarray,
        may_show: np.ndarray,
        share_natural: float,
        epochs: float,
    ) -> np.ndarray:
        """Train a network further; return what it tells of all rows of these classes."""
        shown, called = _call(told, known, classes, labels, share_natural)
        trained = probe(shown & may_show, epochs, network, gently=True, labels=called).network
        return _probabilities(trained, classes, samples, labels)

    networks = [copy.deepcopy(network) for network in fitted.networks]
    checked = np.empty(len(labels))
    for number, network in enumerate(networks):
        its_half = fitted.half == number
        of_all = turn(network, suspicion, its_half, fewest, SETTINGS.check_epochs)
        checked[~its_half] = of_all[~its_half]
    for label in classes:
        known &= ~_mistaken(known & (labels == label), checked)

    # For now the check only says which rows are the least suspect: of few rows it is not sure.
    told = np.minimum(checked, SETTINGS.poison)
    n_turns = SETTINGS.completion_turns
    everything = np.ones(len(labels), dtype=bool)
    shares = np.linspace(fewest, most, 2 * n_turns).reshape(2, n_turns)
    for network, shares_natural in zip(networks, shares, strict=True):
        for further, share_natural in enumerate(shares_natural):
            n_before = (known | (told > SETTINGS.poison)).sum()
            epochs = SETTINGS.completion_further if further else SETTINGS.completion_epochs
            told = turn(network, told, everything, share_natural, epochs)
            n_found = (known | (told > SETTINGS.poison)).sum()
            if further and n_found < (1 + SETTINGS.completion_growth) * n_before:
                break
    return np.where(known, np.nan, told)


def _call(
    told: np.ndarray,
    known: np.ndarray,
    classes: np.ndarray,
    labels: np.ndarray,
    share_natural: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows may be shown to a network, and what they are called.

    The poison of each class is a class of its own. Of its other rows that share is shown that is
    told to be the least likely poison.
    """
    shown, called = ~np.isin(labels, classes), labels.copy()
    is_poison = known | (told > SETTINGS.poison)
    for number, label in enumerate(classes):
        of_class = labels == label
        called[of_class & is_poison] = labels.max() + 1 + number
        natural = np.flatnonzero(of_class & ~is_poison)
        least = natural[np.argsort(told[natural], kind="stable")]
        shown[of_class & is_poison] = True
        shown[least[: int(share_natural * len(natural))]] = True
    return shown, called


def _probabilities(
    network: Network, classes: np.ndarray, samples: Samples, labels: np.ndarray
) -> np.ndarray:
    """Return the probability of each row of these classes to be their poison; nan elsewhere."""
    told = np.full(len(labels), np.nan)
    logits = compute_logits(network, samples).double().cpu()
    for number, label in enumerate(classes):
        rows = np.flatnonzero(labels == label)
        poison = torch.full((len(rows),), int(labels.max()) + 1 + number)
        told[rows] = expit(log_odds(logits[rows], poison).numpy())
    return told


def _mistaken(known: np.ndarray, checked: np.ndarray) -> np.ndarray:
    """Return the few known rows of a class that a network takes for natural, not shown them.

    Few, for a network that does not know the trigger well takes much poison for natural.
    """
    rows = np.flatnonzero(known)
    least = rows[np.argsort(checked[rows], kind="stable")]
    least = least[: int(SETTINGS.most_mistaken * len(rows))]
    mistaken = np.zeros(len(known), dtype=bool)
    mistaken[least[checked[least] <= SETTINGS.doubtful]] = True
    return mistaken
