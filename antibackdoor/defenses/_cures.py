"""How a classifier is made clean once rows are suspected: by training it anew without them."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from antibackdoor.backbones import Network
from antibackdoor.detection import Detection, Isolation
from antibackdoor.training import (
    CrossEntropy,
    NegativeLoss,
    Run,
    ShuffledRows,
    compute_logits,
)
from antibackdoor.utils import CheckedParameters


@dataclass(frozen=True)
class Cured:
    """What a cure has left.

    Attributes
    ----------
    network : Network
        To keep.
    isolation : Isolation
        Whom is suspected in the end.
    unlearned : bool
        Whether anything was there to cure, and the cure was not taken back.
    """

    network: Network
    isolation: Isolation
    unlearned: bool


class Cure(CheckedParameters, metaclass=ABCMeta):
    """Base of the cures: its parameters, and how it trains the network that is kept.

    A cure writes `_train`. It is no estimator: it has no fit, but its parameters are set,
    searched and cloned as those of one.
    """

    #: How often it trains a network, at most.
    n_phases: ClassVar[int] = 1

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    @abstractmethod
    def _train(self, run: Run, detection: Detection, epochs: int) -> Cured:
        """Train the network that is kept.

        Parameters
        ----------
        run : Run
            With the classifier's own recipe and batch size.
        detection : Detection
        epochs : int
            That the network which is kept trains for.

        Returns
        -------
        Cured
        """


class Retrain(Cure):
    """Trains a new network, without the isolated and the doubtful rows.

    The doubtful rows whose label it does not give in the end are flagged too. It needs a nearly
    complete list: poison that is not on it brings the backdoor back.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, Retrain
    >>> ABLClassifier(cure=Retrain())
    ABLClassifier(cure=Retrain())
    """

    def _train(self, run: Run, detection: Detection, epochs: int) -> Cured:
        # From new weights: what has seen the trigger once brings it back.
        network = run.new_network()
        run.phase(
            "finetune",
            network,
            CrossEntropy(),
            epochs=epochs,
            batches=shuffled(run, detection.trusted),
        )
        isolation = judge_doubtful(run, network, detection)
        return Cured(network, isolation, bool(detection.isolation.mask.any()))


class NegativeLearning(Cure):
    """Trains a new network that learns that the labels of the isolated rows say nothing.

    As `Retrain`, but the isolated rows that are not what their label says are trained on too, by
    negative learning: the network learns to hold their label for no likelier than chance, and so
    that the trigger says nothing, though a part of the poison may not be on the list. Isolated
    rows that may bear their true label are left out.

    References
    ----------
    Kim, Yim, Yun & Kim, NLNL: Negative Learning for Noisy Labels, ICCV 2019, equation 2.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, NegativeLearning
    >>> ABLClassifier(cure=NegativeLearning())
    ABLClassifier(cure=NegativeLearning())
    """

    def _train(self, run: Run, detection: Detection, epochs: int) -> Cured:
        network = run.new_network()
        complementary = detection.complementary
        run.phase(
            "finetune",
            network,
            NegativeLoss(torch.as_tensor(complementary, device=run.device)),
            epochs=epochs,
            batches=shuffled(run, detection.trusted | complementary),
        )
        isolation = judge_doubtful(run, network, detection)
        return Cured(network, isolation, bool(detection.isolation.mask.any()))


def judge_doubtful(run: Run, network: Network, detection: Detection) -> Isolation:
    """Flag the rows, neither trusted nor flagged, whose label a clean network does not give."""
    isolation = detection.isolation
    logits = compute_logits(network, run.samples)
    rejected = (logits.argmax(1) != run.labels).cpu().numpy()
    flagged = isolation.mask | (~detection.trusted & rejected)
    # Just above the threshold: less suspect than any row that was flagged before.
    just_above = np.nextafter(isolation.threshold, np.inf)
    scores = np.where(flagged, np.maximum(isolation.scores, just_above), isolation.scores)
    return Isolation(scores, isolation.threshold)


def shuffled(run: Run, mask: np.ndarray) -> ShuffledRows:
    """Return batches of the rows where a mask is set."""
    return ShuffledRows(run.rows(mask), run.batch_size)
