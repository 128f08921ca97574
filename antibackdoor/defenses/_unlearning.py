"""Cures that unlearn: gradient ascent on the isolated rows, during or after fine-tuning."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from antibackdoor.backbones import Network
from antibackdoor.defenses._cures import Cure, Cured, shuffled
from antibackdoor.defenses._forgetting import Forgetting
from antibackdoor.detection import Detection, Isolation, flag_above, least_suspect_half
from antibackdoor.training import (
    Batches,
    CrossEntropy,
    PairedRows,
    Run,
    Unlearning,
    compute_losses,
)
from antibackdoor.utils import parameters

# Unlearning is undone if more than this share of a class's trusted rows lose their label.
_TOLERANCE = 0.5

# A row has lost its label when its probability fell by more than this.
_LOST = 0.5

# Mean loss in nats at which isolated rows count as forgotten if the ascent has no bound.
_FORGOTTEN = 10.0

# Of a step of `Mixed`. In steps of 32 the trigger stayed on poisoned digits: an ASR of 18 to 41,
# and of 0 in these.
_SMALLEST_BATCH = 128


@parameters
class _AscentCure(Cure):
    """Base of the cures that unlearn by gradient ascent, on the network of the detector."""

    bound: float | None = 10.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "bound": [Interval(Real, 0, None, closed="neither"), None],
    }

    def _train(self, run: Run, detection: Detection, epochs: int) -> Cured:
        network = detection.network
        if network is None:
            network = run.new_network()
        isolation = detection.isolation
        if isolation.mask.any():
            return self._unlearn(run, network, isolation, epochs)
        _finetune(run, network, isolation, epochs)
        return Cured(network, isolation, unlearned=False)

    @abstractmethod
    def _unlearn(self, run: Run, network: Network, isolation: Isolation, epochs: int) -> Cured:
        """Train and unlearn; some rows are isolated."""

    def _ascent(self, run: Run, isolation: Isolation) -> Unlearning:
        return Unlearning(torch.as_tensor(isolation.mask, device=run.device), self.bound)

    def _watch(self, run: Run, network: Network, isolation: Isolation) -> Forgetting:
        return Forgetting(
            network,
            run.samples,
            run.labels,
            isolated=run.rows(isolation.mask),
            trusted=run.rows(_trusted(run, isolation)),
            level=_FORGOTTEN if self.bound is None else self.bound,
            tolerance=_TOLERANCE,
        )


@parameters
class Joint(_AscentCure):
    """Cure that fine-tunes and unlearns the suspect rows at the same time, as in ABL's paper.

    Give it to the classifier::

        clf = ABLClassifier(detector=LossRank(), cure=Joint()).fit(X, y)

    In all epochs, gradient descent on the other rows goes together with gradient ascent on the
    isolated ones. This is the paper's stage two, L_GGA: E_clean[l] - E_isolated[l].

    Parameters
    ----------
    bound : float or None, default=10.0
        Loss in nats at which ascent on an isolated row stops. None: no bound, as in the paper;
        training then diverges.

    References
    ----------
    Li, Lyu, Koren, Lyu, Li & Ma, Anti-Backdoor Learning: Training Clean Models on
    Poisoned Data, NeurIPS 2021.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, Joint
    >>> ABLClassifier(cure=Joint(bound=5.0)).get_params()["cure__bound"]
    5.0
    """

    def _unlearn(self, run: Run, network: Network, isolation: Isolation, epochs: int) -> Cured:
        batches = _beside_isolated(run, isolation, shuffled(run, ~isolation.mask))
        run.phase(
            "finetune",
            network,
            self._ascent(run, isolation),
            epochs=epochs,
            recipe=run.recipe.for_repair(),
            batches=batches,
        )
        return Cured(network, isolation, unlearned=True)


@parameters
class Ascent(_AscentCure):
    """Cure that fine-tunes, then unlearns the suspect rows, as in ABL's released code.

    Give it to the classifier::

        clf = ABLClassifier(detector=LossRank(), cure=Ascent()).fit(X, y)

    First gradient descent on the other rows, then gradient ascent on the isolated rows alone.
    The ascent ends when the isolated rows are forgotten. If a class loses trusted rows, the last
    epoch is undone.

    Parameters
    ----------
    epochs : int, default=10
        Largest number of passes over the isolated rows.
    learning_rate : float, default=0.005
        Learning rate of the ascent.
    bound : float or None, default=10.0
        Loss in nats at which ascent on an isolated row stops. None: no bound; the whole ascent
        ends at a mean loss of 10 nats.

    References
    ----------
    Li, Lyu, Koren, Lyu, Li & Ma, Anti-Backdoor Learning: Training Clean Models on
    Poisoned Data, NeurIPS 2021.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, Ascent, LossRank
    >>> clf = ABLClassifier(detector=LossRank(), cure=Ascent(epochs=4))
    """

    epochs: int = 10
    learning_rate: float = 0.005

    n_phases: ClassVar[int] = 2

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def _unlearn(self, run: Run, network: Network, isolation: Isolation, epochs: int) -> Cured:
        _finetune(run, network, isolation, epochs)
        run.phase(
            "unlearn",
            network,
            self._ascent(run, isolation),
            epochs=self.epochs,
            recipe=run.recipe.for_repair(
                learning_rate=self.learning_rate, schedule="constant", augmentation=None
            ),
            batches=shuffled(run, isolation.mask),
            stop=self._watch(run, network, isolation).forgotten_or_harmful,
        )
        return Cured(network, isolation, unlearned=True)


@parameters
class Mixed(_AscentCure):
    """Cure that unlearns a part of the poison and flags the other poison by its reaction.

    It is the default where the detector isolates a share of the rows::

        clf = ABLClassifier(detector=LossRank(), cure=Mixed()).fit(X, y)

    There are three steps:

    1. Fine-tune on the rows that were not isolated.
    2. Unlearn: bounded gradient ascent on the isolated rows, together with descent on the less
       suspect half of every class. Poison that was not isolated loses its label too. These rows
       are flagged, far more than were isolated. Steps are of 128 rows at least: smaller ones
       unlearn less.
    3. Recover: train on the rows that kept their label. From a class with isolated rows, only
       the less suspect half takes part. A class that lost more than half of that half gets all
       of it back.

    If a class is still that bad after recovery, the isolated rows were no backdoor. Then the
    weights from before unlearning are restored and nothing is flagged.

    Parameters
    ----------
    epochs : int, default=10
        Epochs of unlearning.
    learning_rate : float, default=0.005
        Learning rate of unlearning.
    bound : float or None, default=10.0
        Loss in nats at which ascent on an isolated row stops. None: no bound.
    recovery_epochs : int, default=10
        Epochs of recovery, at a tenth of the classifier's learning rate.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, LossRank, Mixed
    >>> clf = ABLClassifier(detector=LossRank(ratio=0.02), cure=Mixed(recovery_epochs=5))
    """

    epochs: int = 10
    learning_rate: float = 0.005
    recovery_epochs: int = 10

    n_phases: ClassVar[int] = 3

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Ascent._parameter_constraints,
        "recovery_epochs": [Interval(Integral, 1, None, closed="left")],
    }

    def _unlearn(self, run: Run, network: Network, isolation: Isolation, epochs: int) -> Cured:
        _finetune(run, network, isolation, epochs)
        labels = run.labels.cpu().numpy()
        before = _label_probabilities(run, network)
        trusted = _trusted(run, isolation)
        watch = self._watch(run, network, isolation)
        in_large = replace(run, batch_size=max(_SMALLEST_BATCH, run.batch_size))
        run.phase(
            "unlearn",
            network,
            self._ascent(run, isolation),
            epochs=self.epochs,
            recipe=run.recipe.for_repair(learning_rate=self.learning_rate, schedule="constant"),
            batches=_beside_isolated(in_large, isolation, shuffled(in_large, trusted)),
        )

        lost = before - _label_probabilities(run, network) > _LOST
        # A class that lost too many of its trusted rows trains on them again, lest ascent on its
        # label remove the class together with the trigger.
        harmed = _share_by_class(lost[trusted], labels[trusted])[labels] > _TOLERANCE
        # A class with isolated rows takes part with its trusted rows only: a few triggered rows
        # would bring the trigger back.
        suspect = np.isin(labels, labels[isolation.mask])
        agreeing = ~lost & ~isolation.mask & (trusted | ~suspect)
        run.phase(
            "recover",
            network,
            CrossEntropy(),
            epochs=self.recovery_epochs,
            recipe=run.recipe.for_repair(learning_rate=run.recipe.learning_rate / 10),
            batches=shuffled(run, agreeing | (trusted & harmed)),
        )
        if watch.undo_harm():
            return Cured(network, Isolation(isolation.scores, np.inf), unlearned=False)
        # In a class without isolated rows, a lost label is no sign of the trigger.
        scores = before - _label_probabilities(run, network)
        scores = np.where(suspect, scores, np.minimum(scores, _LOST))
        return Cured(network, flag_above(scores, _LOST), unlearned=True)


def _finetune(run: Run, network: Network, isolation: Isolation, epochs: int) -> None:
    """Train on the rows that were not isolated."""
    batches = shuffled(run, ~isolation.mask)
    run.phase("finetune", network, CrossEntropy(), epochs=epochs, batches=batches)


def _beside_isolated(run: Run, isolation: Isolation, others: Batches) -> PairedRows:
    # The isolated rows are few: a quarter of a batch is enough.
    return PairedRows(others, run.rows(isolation.mask), max(1, run.batch_size // 4))


def _trusted(run: Run, isolation: Isolation) -> np.ndarray:
    """Pick the trusted rows: the less suspect half of every class."""
    return least_suspect_half(isolation.scores, run.labels.cpu().numpy(), isolation.mask)


def _share_by_class(marked: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the share of marked rows in each class; no class may be empty."""
    return np.bincount(labels, marked) / np.bincount(labels)


def _label_probabilities(run: Run, network: Network) -> np.ndarray:
    """Return the probability that a network gives to the label of every row."""
    losses = compute_losses(network, run.samples, run.labels)
    return torch.exp(-losses.double()).cpu().numpy()
