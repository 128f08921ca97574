"""A class in two parts: what the split finds in features whose clouds are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from search_inputs import fit_halves, linear_network, seen_as

from antibackdoor.detection._cross_fit import draw_halves
from antibackdoor.detection._discriminant import discriminate, look_at, widen
from antibackdoor.detection._parts import split_classes
from antibackdoor.detection._two_groups import log_odds_of_two


@pytest.fixture(scope="module")
def clouds():
    """Features, labels and the smaller cloud: class 0 is two clouds, class 1 too small to split."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(215, 12)).astype(np.float32)
    labels = np.repeat([0, 1], [200, 15])
    apart = np.arange(215) < 40
    features[apart, :3] += 6
    return features, labels, apart


def split(features, labels, seed=0):
    return split_classes(seen_as(features.astype(np.float32), labels), labels, seed)


def in_two(parts):
    """Two parts, in no order."""
    return sorted([parts.first.tolist(), parts.second.tolist()])


# ------------------------------------------------------------------------------- the two halves


@pytest.mark.parametrize("sizes", [(40, 40, 40), (41, 21, 5), (1, 2, 3)])
def test_half_of_every_class_is_shown_to_each_network(sizes):
    labels = np.random.default_rng(0).permutation(np.repeat(range(len(sizes)), sizes))
    half = draw_halves(labels, 0)
    for label, size in enumerate(sizes):
        shown = np.bincount(half[labels == label], minlength=2)
        assert shown.sum() == size
        assert abs(shown[0] - shown[1]) <= 1


def test_the_halves_are_drawn_by_the_seed():
    labels = np.repeat([0, 1], 50)
    one, same, other = (draw_halves(labels, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_row_is_judged_by_the_network_that_has_not_seen_it():
    """Each network gives its own number for all rows: the first class or the second."""
    labels = np.repeat([0, 1], 30)
    X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    biases = np.float32([[9, 0], [0, 9]])
    numbers = [linear_network(np.zeros((2, 4)), bias) for bias in biases]
    fitted = fit_halves(X, labels, *numbers)
    # The second network was shown the second half, and judges the first.
    np.testing.assert_array_equal(fitted.logits.argmax(axis=1), 1 - fitted.half)
    np.testing.assert_array_equal(fitted.recognised, labels == 1 - fitted.half)
    # Of the losses in training there are those of the first network and of its own, for all rows.
    assert fitted.losses.shape == (4, 60)
    assert np.isfinite(fitted.losses).all()


# ------------------------------------------------------------------------------------ the split


def test_two_clouds_are_two_parts(clouds):
    features, labels, apart = clouds
    parts = split(features, labels)[0]
    assert parts.label == 0
    assert parts.rows.tolist() == list(range(200))
    assert in_two(parts) == [np.flatnonzero(apart).tolist(), list(range(40, 200))]


def test_two_networks_that_see_the_clouds_otherwise_agree_on_the_parts(clouds):
    """To the one the smaller cloud is above the other, to the second below, in other columns."""
    features, labels, apart = clouds
    X = np.hstack([features, -features[:, ::-1]])
    networks = [
        linear_network(np.zeros((2, 12)), sees=columns, n_inputs=24)
        for columns in (list(range(12)), list(range(12, 24)))
    ]
    for seed in range(2):
        parts = split_classes(fit_halves(X, labels, *networks, seed=seed), labels, seed)[0]
        assert in_two(parts) == [np.flatnonzero(apart).tolist(), list(range(40, 200))]


def test_one_cloud_falls_into_parts(clouds):
    features, labels, apart = clouds
    features, labels = features[~apart], labels[~apart]
    found = split(features, labels)
    assert found
    for parts in found:
        rows = np.flatnonzero(labels == 0)
        np.testing.assert_array_equal(parts.rows, rows)
        assert set(parts.first) | set(parts.second) == set(rows)
        assert parts.probabilities.min() >= 0 and parts.probabilities.max() <= 1


def test_split_is_the_same_for_a_seed(clouds):
    features, labels, _ = clouds
    once, again = (split(features, labels, 3) for _ in range(2))
    for parts, same in zip(once, again, strict=True):
        np.testing.assert_array_equal(parts.probabilities, same.probabilities)


def test_order_of_the_classes_does_not_matter(clouds):
    features, labels, apart = clouds
    parts = split(features, 1 - labels)[-1]
    assert parts.label == 1
    assert in_two(parts) == [np.flatnonzero(apart).tolist(), list(range(40, 200))]


def test_units_of_the_features_do_not_matter(clouds):
    features, labels, _ = clouds
    units = 10.0 ** np.arange(-6, 6)
    plain, scaled = (split(values, labels)[0] for values in (features, features * units))
    assert in_two(plain) == in_two(scaled)


def test_classes_that_cannot_be_split_are_left_out():
    """A class of two clouds, one of too few rows, and one of rows that are all alike."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [200, 19, 25])
    features = rng.normal(size=(len(labels), 12))
    features[:40, :3] += 6
    features[labels == 2] = 0.1
    assert [parts.label for parts in split(features, labels)] == [0]
    # All alike but one row.
    features[-1] += 9
    assert [parts.label for parts in split(features, labels)] == [0]


def test_constant_columns_say_nothing(clouds):
    features, labels, _ = clouds
    padded = np.hstack([features, np.full((len(labels), 3), 0.1, dtype=np.float32)])
    plain, wide = (split(values, labels)[0] for values in (features, padded))
    assert in_two(plain) == in_two(wide)


@pytest.mark.parametrize(("n_rows", "n_columns"), [(20, 1), (20, 200), (25, 2)])
def test_small_classes_and_wide_features(n_rows, n_columns):
    rng = np.random.default_rng(n_rows)
    labels = np.repeat([0, 1], n_rows)
    fitted = seen_as(rng.normal(size=(2 * n_rows, n_columns)).astype(np.float32), labels)
    for parts in split_classes(fitted, labels, 0):
        assert np.isfinite(parts.probabilities).all()
        # Of both halves some, for their means are taken.
        for part in (parts.first, parts.second):
            assert set(fitted.half[part]) == {0, 1}


def test_a_class_is_looked_at_by_what_each_network_was_not_shown(clouds):
    features, labels, _ = clouds
    fitted = seen_as(features, labels)
    shown = [np.where((fitted.half == number)[:, None], np.nan, features) for number in (0, 1)]
    rows = np.flatnonzero(labels == 0)
    for number, view in enumerate(look_at(replace(fitted, features=tuple(shown)), rows)):
        np.testing.assert_array_equal(view.unseen, fitted.half[rows] != number)
        assert len(view.values) == view.unseen.sum()
        assert np.isfinite(view.values).all()


# ------------------------------------------------------------------------------- a discriminant


def test_a_discriminant_mends_parts_that_are_roughly_right(clouds):
    features, labels, apart = clouds
    fitted = seen_as(features, labels)
    rows = np.arange(200)
    rough = apart[:200].copy()
    rough[[0, 1, 100, 101, 102]] ^= True
    told = discriminate(look_at(fitted, rows), rough)
    np.testing.assert_array_equal(told > 0.5, apart[:200])


@pytest.mark.parametrize("first", [np.zeros(200, dtype=bool), np.arange(200) == 0])
def test_a_part_of_almost_no_rows_is_none(clouds, first):
    features, labels, _ = clouds
    fitted = seen_as(features, labels)
    assert discriminate(look_at(fitted, np.arange(200)), first) is None
    assert discriminate(look_at(fitted, np.arange(200)), ~first) is None


# ------------------------------------------------------------------------- a part that is known


def test_rows_like_the_known_ones_join_them(clouds):
    features, labels, apart = clouds
    views = look_at(seen_as(features, labels), np.arange(200))
    apart = apart[:200]
    known = apart & (np.arange(200) % 3 == 0)
    everything = np.ones(200, dtype=bool)
    nothing_else = np.zeros(200)
    told = widen(views, known, everything, nothing_else, 4)
    assert ((told > 0.5) == apart).mean() > 0.97
    # A discriminant at even odds says of the rows what they were called.
    assert (discriminate(views, known) > 0.5).sum() < apart.sum()
    # Of rows that may not join the odds are told all the same.
    told = widen(views, known, ~everything, nothing_else, 4)
    assert ((told > 0.5) == apart).mean() > 0.97
    # What speaks against a row otherwise counts too.
    told = widen(views, known, everything, np.where(np.arange(200) < 5, -1000.0, 0), 4)
    assert not (told[:5] > 0.5).any() and (told[5:40] > 0.5).mean() > 0.9


@pytest.mark.parametrize("n_few", [25, 150])
def test_the_smaller_of_two_groups_is_told_whatever_its_share(n_few):
    """The middle of two groups by 2-means is among the natural rows where poison is few."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(5, 1, n_few), rng.normal(0, 1, 300)])
    few = np.arange(len(values)) < n_few
    guess = few & (np.arange(len(values)) % 2 == 0)
    nothing_else = np.zeros(len(values))
    told = log_odds_of_two(values, guess, nothing_else) > 0
    assert (told == few).mean() > 0.98
    # What else is known moves the odds by as much, and a row of neither group alone.
    certain = np.where(np.arange(len(values)) == 0, 3.0, 0.0)
    more = log_odds_of_two(values, guess, certain) - log_odds_of_two(values, guess, nothing_else)
    assert more[0] == pytest.approx(3, abs=0.1)
    np.testing.assert_allclose(more[1:], 0, atol=0.1)


def test_equal_numbers_are_of_one_group_as_they_were_guessed():
    odds = log_odds_of_two(np.zeros(40), np.arange(40) < 10, np.zeros(40))
    assert np.isfinite(odds).all() and (odds < 0).all()
