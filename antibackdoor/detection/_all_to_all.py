"""Poison of all classes at once: what the foreign rows of all of them have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import norm
from sklearn.metrics import adjusted_mutual_info_score

from antibackdoor.detection._cross_fit import CrossFit
from antibackdoor.detection._discriminant import SMALLEST_PART, look_at, widen
from antibackdoor.detection._held_out import HeldOutPrediction
from antibackdoor.detection._parts import SMALLEST_CLASS
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.training import Samples, compute_logits

# Rows that each network is asked about.
_N_ROWS = 500

# Of fewer rows of a class nothing is said: of two or three any answer looks like an exchange.
_FEWEST_ASKED = 5


@dataclass(frozen=True)
class SharedPart:
    """Rows of many classes that have something in common, and what it does to other rows.

    Attributes
    ----------
    probabilities : numpy.ndarray of shape (n_samples,), float64
        That a row is one of them; 0 in a class that is too small to be searched.
    relabelling : float
        How far their common difference gives each class the label of one other: 0 where it changes
        nothing or blurs all, 1 where it exchanges the classes.
    turned : numpy.ndarray of shape (n_classes,), float64
        Share of the rows of each class that it turns into the one that most of them become, times
        how well that tells the classes apart: 0 where all become one. nan where few were asked
        about.
    """

    probabilities: np.ndarray
    relabelling: float
    turned: np.ndarray

    @property
    def p_value(self) -> float:
        """How often clean data relabels as much."""
        return float(norm.sf(self.relabelling, *SETTINGS.natural_relabelling))


def find_shared_part(
    samples: Samples,
    labels: np.ndarray,
    fitted: CrossFit,
    predictions: Mapping[int, HeldOutPrediction],
    foreignness: np.ndarray,
    seed: int,
) -> SharedPart:
    """Ask whether a trigger gives each class the label of another one (all-to-all).

    Such poison is a little of every class, and comes from one other class. So it is not diverse,
    and there is no natural class to compare with. But the network has one sign for the trigger,
    whatever the class. A discriminant learns what the most foreign rows of all classes share, each
    as it differs from its own class. The mean of the rows that share it, less the mean rows of the
    classes that they are predicted as, is the trigger, if there is one. It is put on other rows.

    Parameters
    ----------
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int
    fitted : CrossFit
        Each of its networks is asked about rows that it has not seen.
    predictions : mapping of int to HeldOutPrediction
        Of each class.
    foreignness : numpy.ndarray of shape (n_samples,), float64
        Of each row to its class, in nats; 0 where nothing is known.
    seed : int
        Chooses the rows that are asked about.

    Returns
    -------
    SharedPart
    """
    is_large = (np.bincount(labels) >= SMALLEST_CLASS)[labels]
    rows = np.flatnonzero(is_large)
    views = look_at(fitted, rows, labels[rows])
    may_join = fitted.recognised & is_large
    first = _most_foreign(labels, may_join, foreignness)
    probabilities = np.zeros(len(labels))
    probabilities[rows] = widen(views, first[rows], may_join[rows], np.zeros(len(rows)))
    shared, natural = ((side > 0.5) & may_join for side in (probabilities, 1 - probabilities))
    truth, after = [], []
    for number, network in enumerate(fitted.networks):
        unseen = fitted.half != number
        part = np.flatnonzero(shared & unseen)
        others = np.flatnonzero(natural & unseen)
        if len(part) < SMALLEST_PART or len(others) == 0:
            continue
        asked = np.sort(np.random.RandomState(seed).permutation(others)[:_N_ROWS])
        trigger = _foreign_mean(samples, labels, part, predictions, natural)
        if trigger is None:
            continue
        moved = samples.shifted(torch.as_tensor(asked, device=samples.device), trigger)
        truth.append(labels[asked])
        after.append(compute_logits(network, moved).argmax(1).cpu().numpy())
    relabelling, turned = 0.0, np.full(int(labels.max()) + 1, np.nan)
    if truth:
        relabelling, turned = _read(np.concatenate(truth), np.concatenate(after), len(turned))
    return SharedPart(probabilities, relabelling, turned)


def _read(was: np.ndarray, became: np.ndarray, n_classes: int) -> tuple[float, np.ndarray]:
    """Return the relabelling, and the share of each class that becomes one other class."""
    turned = np.full(n_classes, np.nan)
    asked = np.flatnonzero(np.bincount(was, minlength=n_classes) >= _FEWEST_ASKED)
    if len(asked) <= SETTINGS.fewest_known:
        return 0.0, turned
    was, became = was[np.isin(was, asked)], became[np.isin(was, asked)]
    for label in asked:
        counts = np.bincount(became[was == label], minlength=n_classes)
        counts[label] = 0
        turned[label] = counts.max() / (was == label).sum()
    # Corrected for chance: of few rows of many classes any two answers seem to agree.
    told = max(0.0, adjusted_mutual_info_score(was, became))
    return float((was != became).mean() * told), told * turned


def _most_foreign(
    labels: np.ndarray, recognised: np.ndarray, foreignness: np.ndarray
) -> np.ndarray:
    """Return the head of each class by foreignness, shape (n_samples,), bool."""
    first = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero((labels == label) & recognised & (foreignness > 0))
        n_first = int(SETTINGS.foreign_head * (labels == label).sum())
        first[rows[np.argsort(-foreignness[rows], kind="stable")[:n_first]]] = True
    return first


def _foreign_mean(
    samples: Samples,
    labels: np.ndarray,
    part: np.ndarray,
    predictions: Mapping[int, HeldOutPrediction],
    natural: np.ndarray,
) -> torch.Tensor | None:
    """Return the mean of some rows less that of natural rows of what they are predicted as.

    None where there are no natural rows of any of these classes.
    """
    predicted = np.zeros(int(labels.max()) + 1)
    for label in np.unique(labels[part]):
        told = predictions[int(label)]
        predicted[told.known] += told.probabilities[part[labels[part] == label]].sum(axis=0)
    predicted[np.bincount(labels[natural], minlength=len(predicted)) == 0] = 0
    if predicted.sum() == 0:
        return None
    mean = samples.mean(torch.as_tensor(part, device=samples.device))
    weights = predicted / predicted.sum()
    for label in np.flatnonzero(weights):
        rows = np.flatnonzero((labels == label) & natural)
        of_label = samples.mean(torch.as_tensor(rows, device=samples.device))
        mean = mean - weights[label] * of_label
    return mean
