"""Is the difference between two parts of a class a trigger? Put it on rows of other classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from antibackdoor.detection._cross_fit import CrossFit
from antibackdoor.detection._parts import Parts
from antibackdoor.training import Samples, compute_logits

# Rows of other classes that each network is asked about: a share of them is known to two per cent.
_N_ROWS = 250


@dataclass(frozen=True)
class Transplant:
    """What becomes of rows of other classes.

    Attributes
    ----------
    converted : float
        Rise of the share of the rows of a class that are taken for the class of the parts, -1 to 1:
        the mean of the half of the other classes that turn the least.
    of_second : bool
        Whether it is the second part that the other rows were made like.
    """

    converted: float
    of_second: bool


def transplant(
    fitted: CrossFit, samples: Samples, labels: np.ndarray, parts: Parts, seed: int
) -> Transplant:
    """Put the difference of two parts of a class on rows of other classes.

    Two natural parts of a class differ in what either has of the class, and the mean
    difference of their rows turns few rows of other classes into it. Where one of them
    bears a fixed trigger, it is the trigger, and turns most. A natural one may turn most rows of
    the classes that look alike. A trigger turns rows of all classes.

    Parameters
    ----------
    fitted : CrossFit
        Each of its networks is asked about rows that it has not seen.
    samples : Samples
    labels : numpy.ndarray of shape (n_samples,), int
    parts : Parts
    seed : int
        Chooses the rows of other classes.

    Returns
    -------
    Transplant
        The more telling of the two ways: one part's mean row added and the other's taken away.
    """
    truth: list[np.ndarray] = []
    before: list[np.ndarray] = []
    after: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for number, network in enumerate(fitted.networks):
        unseen = fitted.half != number
        elsewhere = np.flatnonzero((labels != parts.label) & unseen)
        chosen = np.sort(np.random.RandomState(seed).permutation(elsewhere)[:_N_ROWS])
        rows, first, second = (
            torch.as_tensor(index, device=samples.device)
            for index in (chosen, *(part[unseen[part]] for part in (parts.first, parts.second)))
        )
        difference = samples.mean(first) - samples.mean(second)
        truth.append(labels[chosen])
        before.append(fitted.logits[chosen].argmax(axis=1) == parts.label)
        for like_second, converted in after.items():
            moved = samples.shifted(rows, -difference if like_second else difference)
            told = compute_logits(network, moved).argmax(1).cpu().numpy()
            converted.append(told == parts.label)
    of, usual = np.concatenate(truth), np.concatenate(before)
    rise = {second: _rise(np.concatenate(told), usual, of) for second, told in after.items()}
    of_second = rise[True] > rise[False]
    return Transplant(rise[of_second], of_second)


def _rise(after: np.ndarray, before: np.ndarray, truth: np.ndarray) -> float:
    """Return how much more is converted, of the half of the classes that turn the least."""
    gained = after.astype(np.float64) - before
    of_classes = np.sort([gained[truth == label].mean() for label in np.unique(truth)])
    return float(of_classes[: (len(of_classes) + 1) // 2].mean())
