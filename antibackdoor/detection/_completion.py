"""The rest of the poison, by networks to which poison is a class of its own."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit, logit

from antibackdoor.backbones import Network
from antibackdoor.detection._cross_fit import CrossFit
from antibackdoor.detection._probes import Probe
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.training import Samples, compute_logits, log_odds

#: How often a network is trained further, at most.
COMPLETION_TURNS = 2 * (SETTINGS.most_checks + SETTINGS.completion_turns)


class Answers(NamedTuple):
    """What a network tells of the rows of poisoned classes, nan of others.

    Attributes
    ----------
    odds : numpy.ndarray of shape (n_samples,), float64
        Log odds of a row to be poison, in nats.
    natural : numpy.ndarray of shape (n_samples,), float64
        Probability to be natural.
    """

    odds: np.ndarray
    natural: np.ndarray


def find_rest(
    suspicion: np.ndarray,
    foreignness: np.ndarray,
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

    Natural rows among the known poison would draw in those that look like them, turn by turn. So
    it is checked first: each network is shown half of the rows, and asked about the other half.
    Those that it takes for natural are not known any more, and the rest is checked again.

    Then the networks are shown all rows, one after the other, in turns. What one finds is shown in
    the next turn, and the second network goes on from what the first has found. A row is found that
    they are as sure of as they were of known poison that they had not been shown. A network whose
    turn finds next to nothing more has no further one: natural rows that look like poison would be
    all that is left to be found.

    Parameters
    ----------
    suspicion : numpy.ndarray of shape (n_samples,)
        Probability to be poison; above `SETTINGS.poison` it is taken for known.
    foreignness : numpy.ndarray of shape (n_samples,)
        Of each row to its class, in nats; 0 where nothing is told.
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
    n_classes = int(labels.max()) + 1
    n_known = np.bincount(labels[known], minlength=n_classes)
    may_drop = (SETTINGS.most_mistaken * n_known).astype(int)
    fewest, most = SETTINGS.shown_natural
    poison_of = np.full(n_classes, -1)
    poison_of[classes] = n_classes + np.arange(len(classes))
    asked = np.flatnonzero(np.isin(labels, classes))

    def turn(
        network: Network,
        told: np.ndarray,
        may_show: np.ndarray,
        share_natural: float,
        epochs: float,
    ) -> Answers:
        """Train a network further, and ask it about all rows of these classes."""
        shown, called = _call(told, known, classes, labels, share_natural)
        trained = probe(shown & may_show, epochs, network, gently=True, labels=called).network
        logits = compute_logits(trained, samples).double().cpu()[asked]
        odds, natural = np.full((2, len(labels)), np.nan)
        odds[asked] = log_odds(logits, torch.as_tensor(poison_of[labels[asked]])).numpy()
        natural[asked] = expit(log_odds(logits, torch.as_tensor(labels[asked])).numpy())
        return Answers(odds, natural)

    def check(told: np.ndarray) -> Answers:
        """Ask about each row a network that was not shown it."""
        answers = np.empty((2, len(labels)))
        for number, network in enumerate(fitted.networks):
            its_half = fitted.half == number
            further = copy.deepcopy(network)
            of_all = turn(further, told, its_half, fewest, SETTINGS.check_epochs)
            answers[:, ~its_half] = np.stack(of_all)[:, ~its_half]
        return Answers(*answers)

    told = suspicion
    for _ in range(SETTINGS.most_checks):
        checked = check(told)
        of_class = [_mistaken(known & (labels == one), checked, foreignness) for one in classes]
        mistaken = np.concatenate(
            [rows[: may_drop[one]] for one, rows in zip(classes, of_class, strict=True)]
        )
        known[mistaken] = False
        may_drop -= np.bincount(labels[mistaken], minlength=n_classes)
        # For now the check only says which rows are the least suspect: of few rows it is not sure.
        told = np.minimum(expit(checked.odds), SETTINGS.poison)
        if not len(mistaken):
            break

    least, highest = logit([SETTINGS.poison, SETTINGS.surest])
    surely = np.quantile(checked.odds[known], SETTINGS.less_sure) if known.any() else least
    threshold = np.clip(surely, least, highest)
    n_turns = SETTINGS.completion_turns
    everything = np.ones(len(labels), dtype=bool)
    networks = [copy.deepcopy(network) for network in fitted.networks]
    shares = np.linspace(fewest, most, 2 * n_turns).reshape(2, n_turns)
    for network, shares_natural in zip(networks, shares, strict=True):
        for further, share_natural in enumerate(shares_natural):
            n_before = (known | (told > SETTINGS.poison)).sum()
            epochs = SETTINGS.completion_further if further else SETTINGS.completion_epochs
            answers = turn(network, told, everything, share_natural, epochs)
            told = expit(answers.odds - threshold)
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


def _mistaken(known: np.ndarray, checked: Answers, foreignness: np.ndarray) -> np.ndarray:
    """Return the known rows of a class that are taken for natural, the surest first.

    A network that hardly knows the trigger takes much poison for natural. It takes little of it for
    natural that a network which does not know the class takes for other classes.
    """
    is_natural = (expit(checked.odds) <= SETTINGS.doubtful) & (checked.natural > SETTINGS.poison)
    mistaken = np.flatnonzero(known & is_natural & (foreignness < 0))
    return mistaken[np.argsort(checked.odds[mistaken], kind="stable")]
