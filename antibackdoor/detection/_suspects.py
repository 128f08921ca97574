"""The part of a class that is foreign to it: which of its rows are recognised as of others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from antibackdoor.detection._cross_fit import CrossFit
from antibackdoor.detection._discriminant import View, are_two, discriminate, look_at, widen
from antibackdoor.detection._held_out import HeldOutPrediction
from antibackdoor.detection._parts import Parts
from antibackdoor.detection._settings import SETTINGS

# Rows at the head of an order, as shares of a class: poison may be a little of it or much.
_AT_THE_HEAD = (0.1, 0.2, 0.4)

_ROUNDS = 4

# A prediction that no row has is not impossible.
_SMALLEST = 1e-3

_STEPS = 60


def part_diversity(
    prediction: HeldOutPrediction, recognised: np.ndarray, rows: np.ndarray
) -> float:
    """Return the prediction diversity of those rows that are recognised as their class.

    Rows that a network gives their label without having seen them have the class in them, or a
    trigger. Natural ones are the typical ones then, and a probe takes them for what the class is
    like.

    Returns
    -------
    float
        nan where they are too few, or the probe tells no classes apart.
    """
    return _diversity(prediction, rows[recognised[rows]])


def _diversity(prediction: HeldOutPrediction, chosen: np.ndarray) -> float:
    if len(chosen) < SETTINGS.fewest_recognised or not prediction.tells_classes_apart:
        return float("nan")
    return prediction.diversity(chosen)


def surely(diversities: np.ndarray, n_rows: np.ndarray) -> np.ndarray:
    """Return diversities less about one standard error: of few rows they are uncertain.

    Parameters
    ----------
    diversities : numpy.ndarray of shape (n_parts,)
        Or differences of diversities.
    n_rows : numpy.ndarray of shape (n_parts,)
        Recognised rows that they were told from.

    Returns
    -------
    numpy.ndarray of shape (n_parts,)
    """
    return diversities - 1 / np.sqrt(np.maximum(1, n_rows))


@dataclass(frozen=True)
class Candidates:
    """Parts of a class, each of which may be its poison.

    Attributes
    ----------
    parts : Parts
        Of the class, by features.
    recognised : numpy.ndarray of shape (n_rows,), bool
        Which rows of the class a network recognises that did not go on with them.
    views : tuple of two View
        Features of the class.
    probabilities : numpy.ndarray of shape (n_candidates, n_rows)
        That a row of the class is of a candidate.
    diversities : numpy.ndarray of shape (n_candidates,)
        Nan of candidates that have too few recognised rows.
    foreignness : numpy.ndarray of shape (n_rows,), float64
        Of each row, in nats; 0 where the probe tells nothing.
    """

    parts: Parts
    recognised: np.ndarray
    views: tuple[View, View]
    probabilities: np.ndarray
    diversities: np.ndarray
    foreignness: np.ndarray

    @property
    def n_recognised(self) -> np.ndarray:
        """Recognised rows of each candidate, shape (n_candidates,), int."""
        return ((self.probabilities > 0.5) & self.recognised).sum(axis=1)

    @property
    def certain(self) -> np.ndarray:
        """What each is `surely` as diverse as, shape (n_candidates,).

        nan of nearly all rows: such a part is as diverse as the class.
        """
        is_part = (self.probabilities > 0.5).mean(axis=1) <= SETTINGS.most_of_a_class
        return surely(np.where(is_part, self.diversities, np.nan), self.n_recognised)

    def agree(self, usual: float, prediction: HeldOutPrediction) -> Parts:
        """Return the rows that the candidates agree on, and those like them, as the first part.

        Each candidate counts as much as it is more diverse than is usual. One alone may hold
        half of the natural rows and be as diverse as the poison is; what they agree on is pure,
        and may be little of it. It is of recognised rows alone: others do not bear a trigger that
        works. Rows that are like it by their features, and as foreign, are suspect, recognised or
        not.

        Parameters
        ----------
        usual : float
            What other classes reach in `certain`.
        prediction : HeldOutPrediction
            Of the class.

        Returns
        -------
        Parts
            The most diverse candidate where they agree on next to nothing, or on nearly all; or
            where it is surely more diverse, and tells more. The parts by features where no
            diversity can be told.
        """
        certain = self.certain
        if np.isnan(certain).all():
            return self.parts
        best = np.nanargmax(certain)
        excess = np.nan_to_num(np.maximum(certain - usual, 0))
        if excess.sum() > 0:
            agreed = excess @ self.probabilities / excess.sum()
            first = self.recognised & (agreed > 0.5)
            told = widen(self.views, first, self.recognised, self.foreignness)
            agreed = replace(self.parts, probabilities=told)
            suspect = told > 0.5
            chosen = self.parts.rows[suspect & self.recognised]
            is_a_part = all(are_two(suspect[view.unseen]) for view in self.views)
            diversity = _diversity(prediction, chosen)
            # In standard errors: a few odd rows are easily more diverse than much poison.
            telling = (diversity - usual) * np.sqrt(len(chosen))
            best_telling = (self.diversities[best] - usual) * np.sqrt(self.n_recognised[best])
            if is_a_part and (certain[best] <= diversity or best_telling <= telling):
                return agreed
        return replace(self.parts, probabilities=self.probabilities[best])


def find_candidates(fitted: CrossFit, prediction: HeldOutPrediction, parts: Parts) -> Candidates:
    """Return parts of a class that may be its poison.

    The parts by features may be wrong. So there are other candidates, which begin from the rows
    at the head of an order. By the odds of their label: where classes are hard to know, a trigger
    is what is recognised best. And by how foreign the held-out prediction is (`foreignness`),
    which tells most where classes are easy to know. What the head of an order has in common, a
    discriminant learns from its features, in rounds.

    Parameters
    ----------
    fitted : CrossFit
    prediction : HeldOutPrediction
        Of the class.
    parts : Parts
        Of the class, by features.

    Returns
    -------
    Candidates
    """
    rows = parts.rows
    probabilities = [parts.probabilities, 1 - parts.probabilities]
    orders = [fitted.odds[rows]]
    foreign = np.zeros(len(rows))
    if prediction.tells_classes_apart:
        foreign = foreignness(prediction.probabilities[rows], prediction.usual)
        orders.append(foreign)
    views = look_at(fitted, rows)
    for order in orders:
        probabilities += _from_the_head(views, order)
    diversities = [
        part_diversity(prediction, fitted.recognised, rows[one > 0.5]) for one in probabilities
    ]
    return Candidates(
        parts=parts,
        recognised=fitted.recognised[rows],
        views=views,
        probabilities=np.stack(probabilities),
        diversities=np.array(diversities),
        foreignness=foreign,
    )


def foreignness(predicted: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return how foreign to its class the held-out prediction of each row is, in nats.

    The rows of a class are natural or foreign. Foreign ones are of other classes, as often of each
    as rows of these are; what natural ones are like is found by expectation and maximisation of
    the mixture's likelihood.

    Parameters
    ----------
    predicted : numpy.ndarray of shape (n_rows, n_known)
        Of the rows of one class, by a probe that does not know it.
    usual : numpy.ndarray of shape (n_known,)
        Mean prediction of rows of the known classes.

    Returns
    -------
    numpy.ndarray of shape (n_rows,), float64
        Log likelihood of each row among rows of other classes, less that among natural ones.
    """
    usual = (usual + _SMALLEST) / (usual + _SMALLEST).sum()
    share = 0.5
    natural = np.maximum(predicted.mean(axis=0) - share * usual, _SMALLEST)
    natural /= natural.sum()
    for _ in range(_STEPS):
        # What a row is predicted as, seen as a natural row: its likelihood, a term for each class.
        terms = predicted * (natural / usual)
        likelihood = terms.sum(axis=1)
        foreign = share / (share + (1 - share) * likelihood)
        share = float(np.clip(foreign.mean(), 0.01, 0.99))
        natural = ((1 - foreign)[:, None] * terms / likelihood[:, None]).sum(axis=0) + _SMALLEST
        natural /= natural.sum()
    return -np.log((predicted * (natural / usual)).sum(axis=1))


def _from_the_head(views: tuple[View, View], order: np.ndarray) -> list[np.ndarray]:
    """Return what a discriminant makes of the rows at the head of an order, a few shares of it."""
    rank = np.empty(len(order))
    for view in views:
        # Each half by itself: its network may be surer than the other.
        rank[view.unseen] = rankdata(order[view.unseen]) / view.unseen.sum()
    told = (discriminate(views, rank > 1 - share, _ROUNDS) for share in _AT_THE_HEAD)
    return [one for one in told if one is not None]
