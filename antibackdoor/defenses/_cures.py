"""Cures that train a new network without the suspect rows."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from antibackdoor.backbones import Network
from antibackdoor.detection import Detection, Isolation
from antibackdoor.training import (
    CrossEntropy,
    NegativeLoss,
    Objective,
    Run,
    ShuffledRows,
    compute_logits,
)
from antibackdoor.utils import CheckedParameters


@dataclass(frozen=True)
class Cured:
    """Result of a cure: the final network and the suspected rows.

    Attributes
    ----------
    network : Network
        The network to keep.
    isolation : Isolation
        Scores and flags of the rows after the cure.
    unlearned : bool
        True if rows were suspected and the cure was not undone.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.backbones import build_network
    >>> from antibackdoor.defenses import Cured
    >>> from antibackdoor.detection import flag_nothing
    >>> network = build_network("mlp", (4,), 2, mean=torch.zeros(4), scale=torch.ones(4))
    >>> Cured(network, flag_nothing(10), unlearned=False).isolation.mask.sum().item()
    0
    """

    network: Network
    isolation: Isolation
    unlearned: bool


class Cure(CheckedParameters, metaclass=ABCMeta):
    """Base of the cures: derive from it to train the final network in a way of your own.

    Implement `_train`, and give the result to ``ABLClassifier(cure=...)``::

        class Mine(Cure):
            def _train(self, run, detection, epochs):
                network = run.new_network()
                rows = ShuffledRows(run.rows(detection.trusted), run.batch_size)
                run.phase("train", network, CrossEntropy(), epochs=epochs, batches=rows)
                return Cured(network, detection.isolation, unlearned=True)

    A cure has no `fit`, but parameters as an estimator has: they can be set, cloned, and
    searched as ``cure__name``.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, LossRank
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.defenses import Cure, Cured
    >>> from antibackdoor.training import CrossEntropy, ShuffledRows
    >>> class Mine(Cure):
    ...     def _train(self, run, detection, epochs):
    ...         network = run.new_network()
    ...         rows = ShuffledRows(run.rows(detection.trusted), run.batch_size)
    ...         run.phase("train", network, CrossEntropy(), epochs=epochs, batches=rows)
    ...         return Cured(network, detection.isolation, unlearned=True)
    >>> X, y = load_digits_images()
    >>> clf = ABLClassifier(detector=LossRank(epochs=2), cure=Mine(), epochs=1, random_state=0)
    >>> clf.fit(X[:300], y[:300]).predict(X).shape
    (1797,)
    """

    #: Largest number of times that it trains a network.
    n_phases: ClassVar[int] = 1

    @abstractmethod
    def _train(self, run: Run, detection: Detection, epochs: int) -> Cured:
        """Train the final network.

        Parameters
        ----------
        run : Run
            The fit, with the classifier's own recipe and batch size.
        detection : Detection
            Result of the detector.
        epochs : int
            Epochs of the final network.
        """


class Retrain(Cure):
    """Cure that trains a new network without the suspect rows.

    Give it to the classifier::

        clf = ABLClassifier(cure=Retrain()).fit(X, y)

    Flagged rows are left out, and so are doubtful ones, which the detector neither flags nor
    trusts. In the end a doubtful row is flagged too if the new network does not predict its
    label. This cure needs a nearly complete list: poison that is not on it brings the backdoor
    back.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, Retrain
    >>> ABLClassifier(cure=Retrain())
    ABLClassifier(cure=Retrain())
    """

    def _train(self, run: Run, detection: Detection, epochs: int) -> Cured:
        objective, rows = self._lesson(run, detection)
        # From new weights: a network that has seen the trigger learns it again.
        network = run.new_network()
        run.phase("finetune", network, objective, epochs=epochs, batches=shuffled(run, rows))
        isolation = judge_doubtful(run, network, detection)
        return Cured(network, isolation, bool(detection.isolation.mask.any()))

    def _lesson(self, run: Run, detection: Detection) -> tuple[Objective, np.ndarray]:
        """Return the objective, and a mask of the rows to train on."""
        return CrossEntropy(), detection.trusted


class NegativeLearning(Retrain):
    """Cure that trains a new network and teaches it that the suspect rows' labels are wrong.

    It is the default where the detector aims to list all of the poison::

        clf = ABLClassifier(cure=NegativeLearning()).fit(X, y)

    It works as `Retrain` does, and adds negative learning: the labels of flagged rows serve as
    complementary labels, "not of this class". The network learns to give such a label no more
    than the probability of chance. So it learns to ignore the trigger, even if a part of the
    poison is not on the list. Flagged rows whose label may be true are left out.

    References
    ----------
    Kim, Yim, Yun & Kim, NLNL: Negative Learning for Noisy Labels, ICCV 2019, equation 2.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, NegativeLearning
    >>> ABLClassifier(cure=NegativeLearning())
    ABLClassifier(cure=NegativeLearning())
    """

    def _lesson(self, run: Run, detection: Detection) -> tuple[Objective, np.ndarray]:
        complementary = detection.complementary
        objective = NegativeLoss(torch.as_tensor(complementary, device=run.device))
        return objective, detection.trusted | complementary


def judge_doubtful(run: Run, network: Network, detection: Detection) -> Isolation:
    """Flag the doubtful rows, neither trusted nor flagged, that the clean network contradicts."""
    isolation = detection.isolation
    logits = compute_logits(network, run.samples)
    rejected = (logits.argmax(1) != run.labels).cpu().numpy()
    flagged = isolation.mask | (~detection.trusted & rejected)
    # Scores just above the threshold: less suspect than any row that was flagged before.
    just_above = np.nextafter(isolation.threshold, np.inf)
    scores = np.where(flagged, np.maximum(isolation.scores, just_above), isolation.scores)
    return Isolation(scores, isolation.threshold)


def shuffled(run: Run, mask: np.ndarray) -> ShuffledRows:
    """Return batches of the rows where a mask is set."""
    return ShuffledRows(run.rows(mask), run.batch_size)
