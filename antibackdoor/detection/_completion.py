"""The rest of the poison, by networks to which poison is a class of its own."""

from __future__ import annotations

import copy
from dataclasses import dataclass
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
) -> tuple[np.ndarray, np.ndarray]:
    """Find the rest of the poison, of which some rows are known.

    A network learns the known poison of a class as one class, and those of its other rows that are
    the least suspect as another. What tells the two apart is the trigger, wherever the poison comes
    from. Rows in doubt are not shown, for a triggered row that is called natural teaches that the
    trigger says nothing. The cross-fitted networks are trained further so: they know the trigger.

    Natural rows among the known poison would draw in those that look like them, turn by turn. So
    it is checked first: each network is shown half of the rows, and asked about the other half.
    Rows that it takes for natural, and that are not foreign, are not known any more. The others are
    checked again.

    Then the networks are shown all rows, one after the other, in turns. What one finds is shown in
    the next turn, and the second network goes on from what the first has found. To be found, a row
    must look as much like poison as most of the known poison did in the check. A network whose turn
    finds next to nothing more has no further one: natural rows that look like poison would be all
    that is left to be found.

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
    scores : numpy.ndarray of shape (n_samples,), float64
        Above `SETTINGS.poison` where a row of these classes is found; nan of those that are known,
        and elsewhere.
    probabilities : numpy.ndarray of shape (n_samples,), float64
        To bear the trigger, of the same rows.
    """
    completion = _Completion(
        known=suspicion > SETTINGS.poison,
        classes=classes,
        labels=labels,
        samples=samples,
        fitted=fitted,
        probe=probe,
    )
    checked = completion.check_known(suspicion, foreignness)
    odds = completion.find(checked)
    scores = expit(odds - completion.thresholds(checked))
    return (
        np.where(completion.known, np.nan, scores),
        np.where(completion.known, np.nan, expit(odds)),
    )


@dataclass
class _Completion:
    """The poison that is known, and the networks that are trained to find the rest of it.

    Attributes
    ----------
    known : numpy.ndarray of shape (n_samples,), bool
        Fewer after a check. What is found does not join it.
    classes, labels, samples, fitted, probe
        As of `find_rest`.
    """

    known: np.ndarray
    classes: np.ndarray
    labels: np.ndarray
    samples: Samples
    fitted: CrossFit
    probe: Probe

    def check_known(self, suspicion: np.ndarray, foreignness: np.ndarray) -> Answers:
        """Drop known rows that look natural; return what the last check tells."""
        n_classes = int(self.labels.max()) + 1
        n_known = np.bincount(self.labels[self.known], minlength=n_classes)
        may_drop = (SETTINGS.most_mistaken * n_known).astype(int)
        told = suspicion
        for _ in range(SETTINGS.most_checks):
            checked = self._ask_unseen(told)
            mistaken = np.concatenate(
                [self._mistaken(one, checked, foreignness)[: may_drop[one]] for one in self.classes]
            )
            if not len(mistaken):
                break
            self.known[mistaken] = False
            may_drop -= np.bincount(self.labels[mistaken], minlength=n_classes)
            told = _least_suspect(checked)
        return checked

    def find(self, checked: Answers) -> np.ndarray:
        """Train both networks in turns; return the log odds that the last one tells."""
        thresholds = self.thresholds(checked)
        n_turns = SETTINGS.completion_turns
        everything = np.ones(len(self.labels), dtype=bool)
        networks = [copy.deepcopy(network) for network in self.fitted.networks]
        shares = np.linspace(*SETTINGS.shown_natural, 2 * n_turns).reshape(2, n_turns)
        told = _least_suspect(checked)
        for network, shares_natural in zip(networks, shares, strict=True):
            for further, share_natural in enumerate(shares_natural):
                n_before = self._is_poison(told).sum()
                epochs = SETTINGS.completion_further if further else SETTINGS.completion_epochs
                answers = self._turn(network, told, everything, share_natural, epochs)
                told = expit(answers.odds - thresholds)
                n_found = self._is_poison(told).sum()
                if further and n_found < (1 + SETTINGS.completion_growth) * n_before:
                    break
        return answers.odds

    def thresholds(self, checked: Answers) -> np.ndarray:
        """Return the log odds from which on each row is found, by its class.

        So many nats as most of the known poison of the class had, which was not shown.
        """
        limits = logit([SETTINGS.poison, SETTINGS.surest])
        by_class = np.full(int(self.labels.max()) + 1, limits[0])
        for label in self.classes:
            of_known = checked.odds[self.known & (self.labels == label)]
            if len(of_known):
                by_class[label] = np.clip(np.quantile(of_known, SETTINGS.less_sure), *limits)
        return by_class[self.labels]

    def _ask_unseen(self, told: np.ndarray) -> Answers:
        """Train copies of the networks on their halves; ask each about the other half."""
        answers = np.empty((2, len(self.labels)))
        fewest, _ = SETTINGS.shown_natural
        for number, network in enumerate(self.fitted.networks):
            its_half = self.fitted.half == number
            further = copy.deepcopy(network)
            of_all = self._turn(further, told, its_half, fewest, SETTINGS.check_epochs)
            answers[:, ~its_half] = np.stack(of_all)[:, ~its_half]
        return Answers(*answers)

    def _turn(
        self,
        network: Network,
        told: np.ndarray,
        may_show: np.ndarray,
        share_natural: float,
        epochs: float,
    ) -> Answers:
        """Train a network further, and ask it about all rows of these classes."""
        labels = self.labels
        shown, called = self._call(told, share_natural)
        trained = self.probe(shown & may_show, epochs, network, gently=True, labels=called).network
        asked = np.flatnonzero(np.isin(labels, self.classes))
        logits = compute_logits(trained, self.samples).double().cpu()[asked]
        as_poison = self._poison_of()[labels[asked]]
        odds, natural = np.full((2, len(labels)), np.nan)
        odds[asked] = log_odds(logits, torch.as_tensor(as_poison)).numpy()
        natural[asked] = expit(log_odds(logits, torch.as_tensor(labels[asked])).numpy())
        return Answers(odds, natural)

    def _call(self, told: np.ndarray, share_natural: float) -> tuple[np.ndarray, np.ndarray]:
        """Return which rows may be shown to a network, and what they are called.

        The poison of each class is a class of its own. Of its other rows that share is shown that
        is told to be the least likely poison.
        """
        is_poison = self._is_poison(told)
        called = np.where(is_poison, self._poison_of()[self.labels], self.labels)
        shown = ~np.isin(self.labels, self.classes) | is_poison
        for label in self.classes:
            natural = np.flatnonzero((self.labels == label) & ~is_poison)
            least = natural[np.argsort(told[natural], kind="stable")]
            shown[least[: int(share_natural * len(natural))]] = True
        return shown, called

    def _poison_of(self) -> np.ndarray:
        """Return what the poison of each class is called, shape (n_classes,)."""
        n_classes = int(self.labels.max()) + 1
        poison_of = np.arange(n_classes)
        poison_of[self.classes] = n_classes + np.arange(len(self.classes))
        return poison_of

    def _is_poison(self, told: np.ndarray) -> np.ndarray:
        of_these = np.isin(self.labels, self.classes)
        return of_these & (self.known | (told > SETTINGS.poison))

    def _mistaken(self, label: int, checked: Answers, foreignness: np.ndarray) -> np.ndarray:
        """Return the known rows of a class that are taken for natural, the surest first.

        Two networks must say so: that of the check, and the one that does not know the class, to
        which they are not foreign. The first alone takes much poison for natural where it hardly
        knows the trigger.
        """
        is_poison = expit(checked.odds) > SETTINGS.doubtful
        is_natural = ~is_poison & (checked.natural > SETTINGS.poison) & (foreignness < 0)
        mistaken = np.flatnonzero(self.known & (self.labels == label) & is_natural)
        return mistaken[np.argsort(checked.odds[mistaken], kind="stable")]


def _least_suspect(checked: Answers) -> np.ndarray:
    """Return what a check tells of which rows are the least suspect; it finds none.

    Networks that were shown half of the rows are not sure enough.
    """
    return np.minimum(expit(checked.odds), SETTINGS.poison)
