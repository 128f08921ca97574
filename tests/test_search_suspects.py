"""Which rows of a class are suspect, and what speaks for it."""

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
)

from antibackdoor.detection._held_out import HeldOutPrediction
from antibackdoor.detection._parts import Parts
from antibackdoor.detection._suspects import find_suspects, part_diversity, part_foreignness

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


# ------------------------------------------------------------------------------ rows


def row_foreignness(predicted, n_known=5):
    """Of rows with these predictions, beside rows to compare with, as many of each class."""
    compared = np.tile(np.eye(n_known), (10, 1))
    prediction = HeldOutPrediction(
        np.arange(n_known),
        np.concatenate([predicted, compared]),
        len(predicted) + np.arange(len(compared)),
    )
    rows = np.arange(len(predicted))
    return prediction.foreignness(rows, prediction.natural_shares(rows))


def test_rows_of_other_classes_are_foreign(planted):
    labels, poison, _, prediction = planted
    rows = np.flatnonzero(labels == TARGET)
    told = prediction.foreignness(rows, prediction.natural_shares(rows))
    natural = told[~poison[rows]]
    # Poison of the one class that natural rows look like is not told from them.
    assert (told[poison[rows]] > np.quantile(natural, 0.95)).mean() >= 0.8
    assert np.isfinite(told).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_natural_rows_look_like_one_class_however_many_are_foreign(share):
    rng = np.random.default_rng(0)
    is_foreign = rng.random(400) < share
    seen = np.where(is_foreign, rng.integers(0, 5, 400), 3)
    told = row_foreignness(0.02 + 0.9 * np.eye(5)[seen])
    assert told[seen != 3].min() > 0 > told[seen == 3].max()


def test_of_a_class_that_is_like_all_others_no_row_is_more_foreign_than_another():
    told = row_foreignness(np.full((30, 5), 0.2))
    np.testing.assert_allclose(told, told[0], atol=1e-9)


def test_the_shares_of_rows_are_those_they_were_drawn_in():
    """A probe that is wrong in a third of the rows says each share too small or too large."""
    rng = np.random.default_rng(0)
    shares = np.array([0.6, 0.3, 0.1, 0.0])
    of = np.concatenate([rng.choice(4, 2000, p=shares), np.tile(np.arange(4), 500)])
    seen = np.where(rng.random(len(of)) < 1 / 3, rng.integers(0, 4, len(of)), of)
    predicted = 1 / 12 + 2 / 3 * np.eye(4)[seen]
    prediction = HeldOutPrediction(np.arange(4), predicted, 2000 + np.arange(2000))
    told = prediction.shares(np.arange(2000))
    np.testing.assert_allclose(told, shares, atol=0.04)
    assert abs(predicted[:2000].mean(axis=0) - shares).max() > 0.1


# ------------------------------------------------------------------------------ the foreign part

#: Rows that are recognised as rows of eight classes: 80 of each of these kinds.
KINDS = {
    "poison": np.arange(80) % 8,
    "of one class": np.full(80, 0),
    "of another": np.full(80, 1),
    "of two": np.arange(80) % 2,
}


def of_kinds(*kinds):
    """A prediction of such rows, 80 of each, and rows to compare with."""
    seen = np.concatenate([*(KINDS[kind] for kind in kinds), np.tile(np.arange(8), 20)])
    predicted = 0.01 + 0.92 * np.eye(8)[seen]
    n_rows = 80 * len(kinds)
    return HeldOutPrediction(np.arange(8), predicted, np.arange(n_rows, len(seen)))


@pytest.mark.parametrize("rest", ["of one class", "of two"])
def test_poison_is_foreign_to_the_rest_of_its_class(rest):
    first, second = np.arange(160).reshape(2, 80)
    prediction = of_kinds("poison", rest)
    assert part_foreignness(prediction, first, second) > 0.8
    # The rest is not foreign to the poison, although it differs as much.
    assert part_foreignness(prediction, second, first) < 0


@pytest.mark.parametrize(
    "kinds",
    [("of one class", "of another"), ("of two", "of two"), ("of one class", "of two")],
    ids=" and ".join,
)
def test_natural_parts_are_not_foreign(kinds):
    first, second = np.arange(160).reshape(2, 80)
    prediction = of_kinds(*kinds)
    told = [part_foreignness(prediction, *parts) for parts in ((first, second), (second, first))]
    assert max(told) < 0.7 < part_foreignness(of_kinds("poison", kinds[0]), first, second)


def test_part_of_the_poison_is_less_foreign_than_all_of_it():
    """The rest holds what is left of it."""
    prediction = of_kinds("poison", "of two")
    rows = np.arange(160)
    part, whole = rows < 40, rows < 80
    told = [part_foreignness(prediction, rows[one], rows[~one]) for one in (part, whole)]
    assert 0 < told[0] < told[1]


# ------------------------------------------------------------------------------ the suspects


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_split_the_poison_is_suspect(planted, seed):
    labels, poison, fitted, prediction = planted
    drawn = np.random.default_rng(seed).random(len(labels)) < 0.5
    found = find_suspects(fitted, prediction, parts_of(labels, drawn))
    # Poison of the one class that natural rows look like may be taken for natural.
    assert np.isin(np.flatnonzero(poison), found.chosen.parts.first).mean() > 0.85
    assert poison[found.chosen.parts.first].mean() > 0.9
    assert found.strongest.evidence > 0.1


def test_of_a_class_without_poison_no_part_is_evidence(planted):
    labels, poison, fitted, prediction = planted
    natural = replace(parts_of(labels, poison), rows=np.flatnonzero((labels == TARGET) & ~poison))
    drawn = np.random.default_rng(0).random(len(natural.rows))
    assert (
        find_suspects(fitted, prediction, replace(natural, probabilities=drawn)).strongest.evidence
        < 0.03
    )


def test_poison_is_found_from_the_rows_that_are_recognised_best(planted):
    """A probe that sees nothing in a quarter of the poison, and a split that is no help."""
    labels, poison, fitted, prediction = planted
    blurred = prediction.probabilities.copy()
    blurred[np.flatnonzero(poison)[::4]] = prediction.usual
    found = find_suspects(
        replace(fitted, odds=fitted.odds + 20 * poison),
        replace(prediction, probabilities=blurred),
        parts_of(labels, np.random.default_rng(0).random(len(labels)) < 0.5),
    ).chosen.parts.first
    assert np.isin(np.flatnonzero(poison), found).mean() > 0.9
    assert poison[found].mean() > 0.9


def test_rows_that_no_network_recognises_are_suspect_if_they_are_like_those_that_are(planted):
    labels, poison, fitted, prediction = planted
    odds = fitted.odds.copy()
    unknown = np.flatnonzero(poison)[::5]
    odds[unknown] = -1
    found = find_suspects(replace(fitted, odds=odds), prediction, parts_of(labels, poison))
    assert found.strongest.n_recognised <= poison.sum() - len(unknown)
    assert np.isin(unknown, found.chosen.parts.first).mean() >= 0.6


def test_of_a_class_that_nobody_recognises_nothing_is_said(planted):
    labels, poison, fitted, prediction = planted
    given = parts_of(labels, poison)
    found = find_suspects(replace(fitted, odds=fitted.odds - 1000), prediction, given)
    assert found.chosen.parts is given
    told = found.strongest
    assert np.isnan([told.diversity, told.foreignness, told.evidence]).all()


def test_nearly_the_whole_class_is_no_part_of_it(planted):
    labels, poison, fitted, prediction = planted
    rows = np.flatnonzero(labels == TARGET)
    nearly_all = np.isin(np.arange(len(labels)), rows[len(rows) // 6 :])
    found = find_suspects(fitted, prediction, parts_of(labels, nearly_all))
    assert len(found.chosen.parts.first) < 0.75 * len(rows)


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
