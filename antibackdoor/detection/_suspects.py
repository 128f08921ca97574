"""The suspect part of a class: which of its rows are recognised as rows of others."""

from __future__ import annotations

from collections.abc import Iterator
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


@dataclass(frozen=True)
class Candidate:
    """A part of a class that may be its poison, and what it shows.

    Attributes
    ----------
    parts : Parts
        The part first.
    diversity, rest_diversity, foreignness : float
        See `part_diversity` and `part_foreignness`; nan where nothing could be told.
    n_recognised : int
        Rows that they were told from.
    """

    parts: Parts
    diversity: float = float("nan")
    rest_diversity: float = float("nan")
    foreignness: float = float("nan")
    n_recognised: int = 0

    @property
    def evidence(self) -> float:
        """How much speaks for poison, 0 or more; nan where nothing could be told.

        A part that is diverse, and is foreign or less alike than the rest. Odd rows of a natural
        class may be one of these. All less some standard errors: of few rows they are uncertain,
        and they are the largest of several candidates.
        """
        error = SETTINGS.standard_errors / np.sqrt(max(1, self.n_recognised))
        diverse, foreign, contrast = np.maximum(
            np.array([self.diversity, self.foreignness, self.diversity - self.rest_diversity])
            - error,
            0,
        )
        return float(diverse * (diverse * foreign + contrast / 2))

    @property
    def told_apart(self) -> float:
        """How much more diverse the part is than the rest, in standard errors."""
        return float((self.diversity - self.rest_diversity) * np.sqrt(self.n_recognised))

    @property
    def is_told_apart(self) -> bool:
        """Whether the part is surely more diverse than the rest, and by far."""
        by_far = self.rest_diversity < self.diversity / 2
        return bool(by_far and self.told_apart > SETTINGS.standard_errors)


@dataclass(frozen=True)
class Suspects:
    """What the candidates of a class show.

    Attributes
    ----------
    strongest : Candidate
        Of the most evidence.
    chosen : Candidate
        Whose rows are suspect: it is told apart best.
    row_foreignness : numpy.ndarray of shape (n_rows,), float64
        Of each row of the class, in nats; 0 where the probe tells nothing.
    """

    strongest: Candidate
    chosen: Candidate
    row_foreignness: np.ndarray


def find_suspects(fitted: CrossFit, prediction: HeldOutPrediction, parts: Parts) -> Suspects:
    """Return the part of a class that may be its poison.

    There are several candidates. The two parts by features may be wrong. So others begin from the
    rows at the head of an order. By the odds of their label: where classes are hard to know, a
    trigger is what is recognised best. And by how foreign the held-out prediction is, which tells
    most where classes are easy to know. What the head of an order has in common, a discriminant
    learns from its features, in rounds. Each is asked about as it is, and with all rows that are
    like it. What the class shows is the most `evidence` of all; suspect are the rows of the one
    with such rows that is told apart best.

    Parameters
    ----------
    fitted : CrossFit
    prediction : HeldOutPrediction
        Of the class.
    parts : Parts
        Of the class, by features.

    Returns
    -------
    Suspects
        Of `parts` alone where nothing could be told of any candidate.
    """
    rows = parts.rows
    foreign = np.zeros(len(rows))
    if prediction.tells_classes_apart:
        foreign = prediction.foreignness(rows, prediction.natural_shares(rows))
    views = look_at(fitted, rows)

    def ask_about(probabilities: np.ndarray) -> Candidate:
        one = replace(parts, probabilities=probabilities)
        return _ask_about(one, prediction, fitted.recognised)

    candidates = _candidates(parts, views, fitted.odds[rows], foreign)
    told = [one for one in map(ask_about, candidates) if np.isfinite(one.evidence)]
    if not told:
        return Suspects(Candidate(parts), Candidate(parts), foreign)
    with_rows = [
        _better(one, ask_about(_widen(one.parts, views, prediction, fitted.recognised)))
        for one in told
    ]
    return Suspects(
        strongest=max([*told, *with_rows], key=lambda one: one.evidence),
        chosen=max(with_rows, key=lambda one: one.told_apart),
        row_foreignness=foreign,
    )


def _better(as_it_is: Candidate, with_rows: Candidate) -> Candidate:
    """Return a candidate with the rows that are like it, unless it tells less in all respects."""
    tells_less = (
        with_rows.evidence < as_it_is.evidence and with_rows.told_apart < as_it_is.told_apart
    )
    return as_it_is if tells_less or np.isnan(with_rows.told_apart) else with_rows


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
    chosen = rows[recognised[rows]]
    if len(chosen) < SETTINGS.fewest_recognised or not prediction.tells_classes_apart:
        return float("nan")
    return prediction.diversity(chosen)


def part_foreignness(prediction: HeldOutPrediction, rows: np.ndarray, rest: np.ndarray) -> float:
    """Return how much more a part of a class is like rows of other classes than like its rest.

    Poison is a sample of the other classes, and the rest of the class is not. A natural part that
    differs from the rest is not either: it looks like some classes of its own.

    Parameters
    ----------
    prediction : HeldOutPrediction
    rows, rest : numpy.ndarray of int64

    Returns
    -------
    float
        In nats a row: how much likelier its rows are as rows of the known classes in their usual
        shares than in those of the rest, less how much likelier they are in shares of their own.
    """
    shares, of_rest = prediction.shares(rows), prediction.shares(rest)
    than_rest, than_own = (prediction.foreignness(rows, one).mean() for one in (of_rest, shares))
    return float(than_rest + than_own)


def _candidates(
    parts: Parts, views: tuple[View, View], *orders: np.ndarray
) -> Iterator[np.ndarray]:
    """Give the probabilities of the rows of a class to be of each candidate."""
    yield parts.probabilities
    yield 1 - parts.probabilities
    for order in orders:
        if order.any():
            yield from _from_the_head(views, order)


def _ask_about(parts: Parts, prediction: HeldOutPrediction, recognised: np.ndarray) -> Candidate:
    """Return what the first part is like; nothing where it or the rest are too few rows."""
    first, second = (part[recognised[part]] for part in (parts.first, parts.second))
    if (
        min(len(first), len(second)) < SETTINGS.fewest_recognised
        or len(parts.first) > SETTINGS.most_of_a_class * len(parts.rows)
        or not prediction.tells_classes_apart
    ):
        return Candidate(parts)
    return Candidate(
        parts,
        diversity=prediction.diversity(first),
        rest_diversity=prediction.diversity(second),
        foreignness=part_foreignness(prediction, first, second),
        n_recognised=len(first),
    )


def _widen(
    parts: Parts, views: tuple[View, View], prediction: HeldOutPrediction, recognised: np.ndarray
) -> np.ndarray:
    """Return the probability of the first part, with the rows that are like it, recognised or not.

    It begins from its recognised rows alone: others do not bear a trigger that works.
    """
    rest = parts.second[recognised[parts.second]]
    foreign = prediction.foreignness(parts.rows, prediction.shares(rest))
    seen = recognised[parts.rows]
    told = widen(views, (parts.probabilities > 0.5) & seen, seen, foreign)
    is_a_part = all(are_two(told[view.unseen] > 0.5) for view in views)
    return told if is_a_part else parts.probabilities


def _from_the_head(views: tuple[View, View], order: np.ndarray) -> Iterator[np.ndarray]:
    """Give what a discriminant makes of the rows at the head of an order, a few shares of it."""
    rank = np.empty(len(order))
    for view in views:
        # Each half by itself: its network may be surer than the other.
        rank[view.unseen] = rankdata(order[view.unseen]) / view.unseen.sum()
    for share in _AT_THE_HEAD:
        told = discriminate(views, rank > 1 - share, _ROUNDS)
        if told is not None:
            yield told
