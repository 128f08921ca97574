"""Which rows of a class are suspect: candidates, and what they agree on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from search_inputs import (
    N_CLASSES,
    N_COLUMNS,
    class_weights,
    confused,
    fit_halves,
    linear_network,
    plant,
    seen_as,
)

from antibackdoor.detection._discriminant import look_at
from antibackdoor.detection._held_out import HeldOutPrediction
from antibackdoor.detection._parts import Parts
from antibackdoor.detection._suspects import (
    Candidates,
    find_candidates,
    foreignness,
    part_diversity,
)

TARGET = 2


@pytest.fixture(scope="module")
def planted():
    """Labels, poison, a cross-fit that has learned the trigger, and what a probe predicts."""
    X, labels, poison = plant(dict.fromkeys((0, 1, 3, 4, 5), 5), n_rows=100)
    fitted = fit_halves(X, labels, linear_network(class_weights(6.0)))
    return labels, poison, fitted, predicted(X, labels, confused(class_weights()))


def predicted(X, labels, weight):
    """What this network says of the rows, that does not know the target."""
    known = np.arange(N_CLASSES) != TARGET
    logits = X @ weight[known].T
    compared = np.flatnonzero(labels != TARGET)[::10]
    return HeldOutPrediction(np.flatnonzero(known), softmax(logits, axis=1), compared)


def parts_of(labels, suspect):
    """Parts of the target: these rows first."""
    rows = np.flatnonzero(labels == TARGET)
    return Parts(TARGET, rows, np.isin(rows, np.flatnonzero(suspect)).astype(float))


# ---------------------------------------------------------------------------------- foreignness


def test_rows_of_other_classes_are_foreign(planted):
    labels, poison, _, prediction = planted
    rows = np.flatnonzero(labels == TARGET)
    told = foreignness(prediction.probabilities[rows], prediction.usual)
    natural = told[~poison[rows]]
    # Poison of the one class that natural rows look like is not told from them.
    assert (told[poison[rows]] > np.quantile(natural, 0.95)).mean() >= 0.8
    assert np.isfinite(told).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_natural_rows_look_like_one_class_however_many_are_foreign(share):
    rng = np.random.default_rng(0)
    is_foreign = rng.random(400) < share
    seen = np.where(is_foreign, rng.integers(0, 5, 400), 3)
    predicted = 0.02 + 0.9 * np.eye(5)[seen]
    told = foreignness(predicted, np.full(5, 0.2))
    assert told[seen != 3].min() > 0 > told[seen == 3].max()


def test_of_a_class_that_is_like_all_others_no_row_is_more_foreign_than_another():
    told = foreignness(np.full((30, 5), 0.2), np.full(5, 0.2))
    np.testing.assert_allclose(told, told[0], atol=1e-9)


# --------------------------------------------------------------------------------- candidates


def suspected(candidates, prediction, usual=0.2):
    """Rows that the candidates agree on."""
    return candidates.agree(usual, prediction).first


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_split_the_candidates_agree_on_the_poison(planted, seed):
    labels, poison, fitted, prediction = planted
    drawn = np.random.default_rng(seed).random(len(labels)) < 0.5
    candidates = find_candidates(fitted, prediction, parts_of(labels, drawn))
    # Poison of the one class that natural rows look like may be taken for natural.
    assert np.isin(np.flatnonzero(poison), suspected(candidates, prediction)).mean() > 0.85
    assert poison[suspected(candidates, prediction)].mean() > 0.9
    assert np.nanmax(candidates.diversities) > 0.7


def test_poison_is_found_from_the_rows_that_are_recognised_best(planted):
    """A probe that sees nothing in a quarter of the poison, and a split that is no help."""
    labels, poison, fitted, prediction = planted
    blurred = prediction.probabilities.copy()
    blurred[np.flatnonzero(poison)[::4]] = prediction.usual
    candidates = find_candidates(
        replace(fitted, odds=fitted.odds + 20 * poison),
        replace(prediction, probabilities=blurred),
        parts_of(labels, np.random.default_rng(0).random(len(labels)) < 0.5),
    )
    assert np.isin(np.flatnonzero(poison), suspected(candidates, prediction)).mean() > 0.9
    assert poison[suspected(candidates, prediction)].mean() > 0.9


def test_of_a_class_that_nobody_recognises_nothing_is_said(planted):
    labels, poison, fitted, prediction = planted
    given = parts_of(labels, poison)
    candidates = find_candidates(replace(fitted, odds=fitted.odds - 1000), prediction, given)
    assert np.isnan(candidates.diversities).all()
    assert candidates.agree(0.2, prediction) is given


def of_candidates(probabilities, diversities, recognised=None, features=None):
    """Candidates of a class of as many rows; by default the features tell nothing."""
    probabilities = np.array(probabilities, dtype=float)
    rows = np.arange(probabilities.shape[1])
    if features is None:
        features = np.zeros((len(rows), 1), np.float32)
    return Candidates(
        parts=Parts(0, rows, probabilities[0]),
        recognised=np.ones(len(rows), dtype=bool) if recognised is None else recognised,
        views=look_at(seen_as(features, np.zeros(len(rows), int)), rows),
        probabilities=probabilities,
        diversities=np.array(diversities, dtype=float),
        foreignness=np.zeros(len(rows)),
    )


#: A hundred rows, recognised as rows of four classes in turn.
ALL_DIVERSE = HeldOutPrediction(np.arange(4), np.eye(4)[np.arange(100) % 4], np.arange(100))


def test_each_candidate_counts_as_much_as_it_is_more_diverse_than_is_usual():
    """One holds the first 60 rows, one the first 20; a third, of the rest, is as usual."""
    rows = np.arange(100)
    probabilities = [rows < 60, rows < 20, rows >= 20]
    for diversities, n_first in (([0.9, 0.9, 0.2], 60), ([0.7, 0.9, 0.2], 20)):
        agreed = of_candidates(probabilities, diversities).agree(0.2, ALL_DIVERSE)
        assert agreed.first.tolist() == list(range(n_first))


def test_rows_like_those_agreed_on_are_suspect_too():
    """The candidates agree on half of a cloud, of which some rows are not recognised."""
    rows = np.arange(100)
    features = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    features[:40] += 4
    recognised = rows % 5 > 0
    candidates = of_candidates([rows < 20, rows >= 40], [0.9, 0.1], recognised, features)
    agreed = candidates.agree(0.2, ALL_DIVERSE)
    assert set(range(40)) <= set(agreed.first) and len(agreed.first) < 45


def test_candidates_that_are_as_usual_leave_it_to_the_most_diverse():
    rows = np.arange(100)
    told = of_candidates([rows < 50, rows >= 50], [0.4, 0.5]).agree(0.95, ALL_DIVERSE)
    assert told.first.tolist() == list(range(50, 100))


def test_a_candidate_that_is_surely_more_diverse_takes_the_place_of_what_they_agree_on():
    """They agree on the first twenty rows; the first candidate has forty."""
    rows = np.arange(100)
    candidates = of_candidates([rows < 40, rows < 20, rows < 20], [0.95, 0.9, 0.9])
    assert len(candidates.agree(0.2, ALL_DIVERSE).first) == 20
    # The twenty are of one class: what they agree on tells less than the candidate.
    alike = replace(ALL_DIVERSE, probabilities=np.eye(4)[np.where(rows < 20, 0, rows % 4)])
    assert len(candidates.agree(0.2, alike).first) == 40


def two_clouds(first):
    features = np.random.default_rng(0).normal(size=(len(first), 4)).astype(np.float32)
    features[first] += 8
    return features


def test_a_few_rows_do_not_take_the_place_of_many_that_are_nearly_as_diverse():
    """They agree on forty rows; twelve others are of more classes yet."""
    rows = np.arange(100)
    many, few = rows < 40, (rows >= 40) & (rows < 52)
    of = np.where(few, rows % 6, rows % 2)
    prediction = HeldOutPrediction(np.arange(6), np.eye(6)[of], np.flatnonzero(rows >= 52))
    candidates = of_candidates([many, many, few], [1, 1, 1.35], features=two_clouds(many))
    assert candidates.certain[2] > prediction.diversity(np.flatnonzero(many))
    assert candidates.agree(0.3, prediction).first.tolist() == np.flatnonzero(many).tolist()


def test_nearly_the_whole_class_is_no_candidate():
    rows = np.arange(100)
    features = two_clouds(rows < 40)
    told = of_candidates([rows < 90, rows < 40], [0.9, 0.8], features=features)
    assert told.agree(0.2, ALL_DIVERSE).first.tolist() == list(range(40))


def test_what_nearly_all_rows_are_like_is_no_part():
    """Three candidates that each hold two thirds of a class: they agree on all of it."""
    rows = np.arange(60)
    candidates = [rows % 3 != number for number in range(3)]
    features = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    told = of_candidates(candidates, [0.8, 0.9, 0.8], features=features).agree(0.2, ALL_DIVERSE)
    assert told.first.tolist() == rows[rows % 3 != 1].tolist()


# ---------------------------------------------------------------------------------- diversity


def test_poison_is_more_diverse_than_the_class(planted):
    labels, poison, _, prediction = planted
    recognised = np.ones(len(labels), dtype=bool)
    natural = (labels == TARGET) & ~poison
    of_poison, of_natural = (
        part_diversity(prediction, recognised, np.flatnonzero(rows)) for rows in (poison, natural)
    )
    assert of_poison > 0.7
    assert of_natural < 0.2


def test_rows_that_are_not_recognised_do_not_count(planted):
    labels, poison, _, prediction = planted
    natural = (labels == TARGET) & ~poison
    rows = np.flatnonzero(labels == TARGET)
    told = part_diversity(prediction, natural, rows)
    assert told == prediction.diversity(np.flatnonzero(natural))


def test_few_recognised_rows_and_a_probe_that_knows_nothing_have_no_diversity(planted):
    labels, poison, _, prediction = planted
    rows = np.flatnonzero(poison)
    few = np.isin(np.arange(len(labels)), rows[:3])
    assert np.isnan(part_diversity(prediction, few, rows))
    blind = predicted(np.zeros((len(labels), N_COLUMNS)), labels, class_weights())
    assert np.isnan(part_diversity(blind, poison, rows))
