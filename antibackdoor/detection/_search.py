"""The search, stage by stage: arrays over rows and classes in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from antibackdoor.detection._all_to_all import SharedPart, find_shared_part
from antibackdoor.detection._base import Detection
from antibackdoor.detection._completion import COMPLETION_TURNS, find_rest
from antibackdoor.detection._cross_fit import CrossFit, cross_fit
from antibackdoor.detection._evidence import ClassEvidence, Signs, weigh
from antibackdoor.detection._held_out import HeldOutPrediction, predict_held_out
from antibackdoor.detection._parts import SMALLEST_CLASS, Parts, split_classes
from antibackdoor.detection._probes import Probe
from antibackdoor.detection._select import Isolation, flag_nothing
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.detection._suspects import find_suspects, part_diversity
from antibackdoor.detection._transplant import transplant
from antibackdoor.training import Samples

#: How often a search has a network trained, or trained further, at most.
MOST_PROBES = 3 + SETTINGS.n_groups * SETTINGS.n_probes + COMPLETION_TURNS

#: Of all rows, those that a probe which lacks one group of classes is trained on.
SHARE_OF_A_PROBE = (1 - 1 / SETTINGS.n_groups) * (1 - SETTINGS.compared_share)

#: Of fewer classes that are large enough none is searched.
FEWEST_CLASSES = 1 + SETTINGS.fewest_known


def count_large(labels: np.ndarray) -> int:
    """Return how many classes have rows enough to be searched, and to be known by a probe."""
    return int((np.bincount(labels) >= SMALLEST_CLASS).sum())


def find_poison(
    samples: Samples,
    labels: np.ndarray,
    *,
    probe: Probe,
    false_alarm_rate: float,
    seed: int,
) -> Detection:
    """Find the poisoned rows of training data, if there are any.

    Each class is split in two by what networks see in rows that they did not go on with
    (`cross_fit`, `split_classes`). Two signs of poison are looked for in every class. A network
    that does not know the class recognises the rows of a part as rows of many others
    (`predict_held_out`, `find_suspects`). Or the difference of two parts, put on rows of other
    classes, turns them into this class (`transplant`). Each sign is compared with what the other
    classes of the same data show (`weigh`). A third is of all classes at once: what their foreign
    rows share gives each class the label of another one (`find_shared_part`).

    Parameters
    ----------
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int
        Encoded as 0 to n_classes - 1; `FEWEST_CLASSES` or more of them are large enough.
    probe : Probe
        Called `MOST_PROBES` times at most.
    false_alarm_rate : float
        Of the whole search, on clean data.
    seed : int

    Returns
    -------
    Detection
    """
    fitted = cross_fit(samples, labels, probe, seed)
    parts = split_classes(fitted, labels, seed)
    if not parts:
        return Detection.untested(flag_nothing(len(labels)))
    predictions = predict_held_out(samples, labels, fitted, probe, seed)
    signs = [_measure(one, fitted, predictions[one.label], samples, labels, seed) for one in parts]
    foreignness = np.zeros(len(labels))
    for one in signs:
        foreignness[one.parts.rows] = one.suspects.row_foreignness
    shared = find_shared_part(samples, labels, fitted, predictions, foreignness, seed)
    n_known = min(len(one.known) for one in predictions.values())
    level = false_alarm_rate / _n_tests(labels)
    evidence = weigh(signs, n_known, level)
    detection = _conclude(evidence, shared, level, labels)
    if detection.isolation.mask.any():
        detection = _complete(detection, foreignness, samples, labels, fitted, probe)
    of_others = [one.label for one in evidence if one.is_poisoned and one.is_of_other_classes]
    if shared.p_value < level:
        # Each of these classes has rows of another one.
        of_others += np.unique(labels[shared.probabilities > SETTINGS.poison]).tolist()
    # Of all that is flagged in these classes, what was completed included.
    is_of_others = np.isin(labels, of_others)
    complementary = detection.isolation.mask & is_of_others
    return replace(
        detection,
        complementary=complementary,
        network=fitted.networks[0],
        losses=fitted.losses,
    )


def _n_tests(labels: np.ndarray) -> int:
    """Return how often poison is asked about: in each class, and in all at once."""
    return int(labels.max()) + 2


def _measure(
    parts: Parts,
    fitted: CrossFit,
    prediction: HeldOutPrediction,
    samples: Samples,
    labels: np.ndarray,
    seed: int,
) -> Signs:
    suspects = find_suspects(fitted, prediction, parts)
    by_features, by_suspects = (
        transplant(fitted, samples, labels, one, seed) for one in (parts, suspects.chosen.parts)
    )
    # What the suspect rows have in common is purer than what the features tell.
    suspects_bear_it = by_suspects.converted >= SETTINGS.about_as_much * by_features.converted
    bearing, told = (
        (suspects.chosen.parts, by_suspects) if suspects_bear_it else (parts, by_features)
    )
    stronger = max(by_features, by_suspects, key=lambda one: one.converted)
    of_first, of_second = (
        part_diversity(prediction, fitted.recognised, one) for one in (parts.first, parts.second)
    )
    return Signs(
        suspects=suspects,
        parts=bearing,
        transplant=replace(stronger, of_second=told.of_second),
        split_diversity=float(np.fmax(of_first, of_second)),
    )


def _conclude(
    evidence: Sequence[ClassEvidence], shared: SharedPart, level: float, labels: np.ndarray
) -> Detection:
    """Return the scores of all rows, and which are to be trusted."""
    scores = np.zeros(len(labels))
    trusted = np.ones(len(labels), dtype=bool)
    found = [(one.rows, one.probabilities, one.p_value) for one in evidence]
    found.append((np.arange(len(labels)), shared.probabilities, shared.p_value))
    for rows, probabilities, p_value in found:
        if p_value < level:
            scores[rows] = np.maximum(scores[rows], probabilities)
            trusted[rows] &= probabilities <= SETTINGS.doubtful
        else:
            # Below the threshold, and the higher the nearer they came to being significant.
            near = SETTINGS.poison * probabilities * level / p_value
            scores[rows] = np.maximum(scores[rows], near)
    smallest = min(p_value for _, _, p_value in found)
    return Detection(
        isolation=Isolation(scores, SETTINGS.poison),
        trusted=trusted,
        complementary=np.zeros(len(labels), dtype=bool),
        p_value=min(1.0, _n_tests(labels) * smallest),
        signs=_signs(evidence, shared),
    )


def _signs(evidence: Sequence[ClassEvidence], shared: SharedPart) -> dict[str, np.ndarray]:
    diversity, foreignness, transplanted = np.full((3, len(shared.turned)), np.nan)
    for one in evidence:
        diversity[one.label] = one.signs.suspects.strongest.diversity
        foreignness[one.label] = one.signs.suspects.strongest.foreignness
        transplanted[one.label] = one.signs.transplant.converted
    return {
        "diversity": diversity,
        "foreignness": foreignness,
        "transplant": transplanted,
        "relabelling": shared.turned,
    }


def _complete(
    detection: Detection,
    foreignness: np.ndarray,
    samples: Samples,
    labels: np.ndarray,
    fitted: CrossFit,
    probe: Probe,
) -> Detection:
    """Flag the rest of the poison of the poisoned classes."""
    poisoned = np.unique(labels[detection.isolation.mask])
    suspicion = detection.isolation.scores
    scores, probabilities = find_rest(
        suspicion, foreignness, poisoned, samples, labels, fitted, probe
    )
    is_told = np.isfinite(scores)
    return replace(
        detection,
        isolation=Isolation(np.where(is_told, scores, suspicion), SETTINGS.poison),
        trusted=np.where(is_told, probabilities <= SETTINGS.doubtful, detection.trusted),
    )
