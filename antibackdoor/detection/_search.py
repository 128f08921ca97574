"""The search, stage by stage: arrays over rows and classes in, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from antibackdoor.backbones import Network
from antibackdoor.detection._base import Detection
from antibackdoor.detection._completion import MOST_ROUNDS, find_rest
from antibackdoor.detection._evidence import ClassEvidence
from antibackdoor.detection._low_margin import has_tenths, order_by_margin
from antibackdoor.detection._parts import SMALLEST_CLASS, split_classes
from antibackdoor.detection._probes import HeldOutPrediction, Probe, predict_held_out
from antibackdoor.detection._select import Isolation, flag_nothing
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.detection._transplant import transplant
from antibackdoor.training import Samples, compute_features

#: How often a search has a network trained, or trained further, at most.
MOST_PROBES = 1 + max(2, MOST_ROUNDS)

#: Of fewer classes that are large enough none is searched.
FEWEST_CLASSES = 1 + SETTINGS.fewest_known

#: Turns the evidence of a class that was held out into more of it.
_Reading = Callable[[ClassEvidence, HeldOutPrediction], ClassEvidence]


def count_large(labels: np.ndarray) -> int:
    """Return how many classes have rows enough to be searched, and to be known by a probe."""
    return int((np.bincount(labels) >= SMALLEST_CLASS).sum())


def find_poison(
    network: Network,
    samples: Samples,
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    probe: Probe,
    false_alarm_rate: float,
    seed: int,
) -> Detection:
    """Find the poisoned rows of training data, if there are any.

    Each class is split in two by what a backdoored network sees in its rows. Two signs
    speak for poison in one of the parts: the difference of the two, put on rows of other
    classes, turns them into this class (`transplant`); or a probe that does not know this
    class recognises the rows of the part as rows of many others (`prediction_diversity`). Both
    are compared with what natural parts of clean data give. A trigger that the backdoored
    network has not learned splits nothing: so where neither is significant in any class, an early
    network orders the rows by their margin, and those of the lowest are predicted held out.

    Parameters
    ----------
    network : Network
        That has seen all rows, and taken the backdoor in if there is one.
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int
        Encoded as 0 to n_classes - 1; `FEWEST_CLASSES` or more of them are large enough.
    scores : numpy.ndarray of shape (n_samples,)
        Suspicion from the losses of `network`: higher where they are lower.
    probe : Probe
        Called `MOST_PROBES` times at most.
    false_alarm_rate : float
        Of the whole search, on clean data.
    seed : int

    Returns
    -------
    Detection
    """
    n_held_out = count_large(labels) - SETTINGS.fewest_known
    n_classes = int(labels.max()) + 1

    def hold_out(
        evidence: list[ClassEvidence], chosen: list[int], read: _Reading
    ) -> list[ClassEvidence]:
        prediction = predict_held_out(np.array(chosen), samples, labels, probe, seed)
        return [read(one, prediction) if one.label in chosen else one for one in evidence]

    evidence = _split_and_transplant(
        network, samples, labels, scores, false_alarm_rate / n_classes, seed
    )
    if not evidence:
        return Detection.untested(flag_nothing(len(labels)))
    evidence = hold_out(evidence, _likeliest(evidence)[:n_held_out], _read_parts)
    in_parts = any(one.is_poisoned for one in evidence)
    if not in_parts and any(has_tenths(one.parts.rows) for one in evidence):
        evidence = _order(evidence, samples, labels, probe)
        evidence = hold_out(evidence, _lowest_margins(evidence)[:n_held_out], _read_low_margin)
    detection = _conclude(evidence, labels)
    # Of low-margin rows, which are not all poison, a network would learn the class.
    if in_parts:
        detection = _complete(detection, evidence, samples, labels, probe)
    of_others = [one.label for one in evidence if one.is_of_other_classes]
    # Of all that is flagged in these classes, what was completed included.
    complementary = detection.isolation.mask & np.isin(labels, of_others)
    return replace(detection, complementary=complementary)


def _split_and_transplant(
    network: Network,
    samples: Samples,
    labels: np.ndarray,
    scores: np.ndarray,
    level: float,
    seed: int,
) -> list[ClassEvidence]:
    """Return the evidence of each class that can be split."""
    features = compute_features(network, samples).cpu().numpy()
    return [
        ClassEvidence(
            parts, transplant(network, samples, labels, parts.first, parts.second, seed), level
        )
        for parts in split_classes(features, scores, labels, seed)
    ]


def _likeliest(evidence: Sequence[ClassEvidence]) -> list[int]:
    """Pick the classes of a significant transplant or, if none, the likeliest."""
    strongest = sorted(evidence, key=lambda one: -one.transplant)
    significant = [one.label for one in strongest if one.transplant_p < one.level]
    if significant:
        return significant
    clearest = sorted(evidence, key=lambda one: one.parts.overlap)
    pairs = zip(clearest, strongest, strict=True)
    both = [one.label for pair in list(pairs)[: SETTINGS.n_held_out] for one in pair]
    return list(dict.fromkeys(both))


def _read_parts(evidence: ClassEvidence, prediction: HeldOutPrediction) -> ClassEvidence:
    parts = evidence.parts
    evidence = replace(evidence, margins=prediction.margins(parts.rows))
    if not prediction.tells_classes_apart:
        return evidence
    diversities = prediction.diversity(parts.first), prediction.diversity(parts.second)
    return replace(evidence, diversities=diversities)


def _order(
    evidence: list[ClassEvidence], samples: Samples, labels: np.ndarray, probe: Probe
) -> list[ClassEvidence]:
    """Give each class the order of its rows under an early network."""
    early = probe(np.ones(len(labels), dtype=bool), SETTINGS.early_epochs)
    orders = order_by_margin(early, samples, labels)
    return [replace(one, order=orders.get(one.label)) for one in evidence]


def _lowest_margins(evidence: Sequence[ClassEvidence]) -> list[int]:
    """Pick the classes whose low-margin rows are predicted most differently."""
    diversities = {
        one.label: one.order.first_diversity for one in evidence if one.order is not None
    }
    return sorted(diversities, key=lambda label: -diversities[label])[: SETTINGS.n_low_margin]


def _read_low_margin(evidence: ClassEvidence, prediction: HeldOutPrediction) -> ClassEvidence:
    if not prediction.tells_classes_apart:
        return evidence
    assert evidence.order is not None
    usual = prediction.diversity(evidence.order.better_half)
    excesses = tuple(prediction.diversity(rows) - usual for rows in evidence.order.tenths)
    return replace(evidence, excesses=excesses)


def _conclude(evidence: Sequence[ClassEvidence], labels: np.ndarray) -> Detection:
    """Return the scores of all rows, and which are to be trusted."""
    scores = np.zeros(len(labels))
    trusted = np.ones(len(labels), dtype=bool)
    for one in evidence:
        rows, probabilities = one.parts.rows, one.probabilities
        if one.is_poisoned:
            scores[rows] = probabilities
            trusted[rows] = ~one.doubtful
        else:
            # Below the threshold, and the higher the nearer its class came to being significant.
            scores[rows] = SETTINGS.poison * probabilities * one.level / one.p_value
    n_classes = int(labels.max()) + 1
    smallest = min(one.p_value for one in evidence)
    return Detection(
        isolation=Isolation(scores, SETTINGS.poison),
        trusted=trusted,
        complementary=np.zeros(len(labels), dtype=bool),
        p_value=min(1.0, n_classes * smallest),
        signs=_signs(evidence, n_classes),
    )


def _signs(evidence: Sequence[ClassEvidence], n_classes: int) -> dict[str, np.ndarray]:
    names = ("transplant", "diversity", "low_margin")
    signs = {name: np.full(n_classes, np.nan) for name in names}
    for one in evidence:
        signs["transplant"][one.label] = one.transplant
        if one.diversities is not None:
            signs["diversity"][one.label] = max(one.diversities)
        if one.excesses is not None:
            signs["low_margin"][one.label] = one.excesses[0]
    return signs


def _complete(
    detection: Detection,
    evidence: Sequence[ClassEvidence],
    samples: Samples,
    labels: np.ndarray,
    probe: Probe,
) -> Detection:
    """Flag the rest of the poison of the poisoned classes."""
    poisoned = np.array([one.label for one in evidence if one.is_poisoned], dtype=np.int64)
    triggered = find_rest(detection.isolation.mask, poisoned, samples, labels, probe)
    scores = np.maximum(detection.isolation.scores, triggered)
    trusted = detection.trusted & (triggered <= SETTINGS.doubtful)
    return replace(detection, isolation=Isolation(scores, SETTINGS.poison), trusted=trusted)
