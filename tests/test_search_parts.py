"""A class in two parts: what the split finds in features whose clouds are known."""

from __future__ import annotations

import numpy as np
import pytest

from antibackdoor.detection._parts import split_classes


@pytest.fixture(scope="module")
def clouds():
    """Features, scores, labels and the cloud of low losses.

    Class 0 is two clouds, the smaller of which has the higher scores; class 1 is one.
    """
    rng = np.random.default_rng(0)
    features = rng.normal(size=(350, 12)).astype(np.float32)
    labels = np.repeat([0, 1], [200, 150])
    apart = np.arange(350) < 40
    features[apart, :3] += 6
    scores = rng.normal(size=350) + 3 * apart
    return features, scores, labels, apart


def test_two_clouds_are_two_parts(clouds):
    features, scores, labels, apart = clouds
    parts, _ = split_classes(features, scores, labels, 0)
    assert parts.label == 0
    assert parts.rows.tolist() == list(range(200))
    assert parts.first.tolist() == np.flatnonzero(apart).tolist()
    assert parts.second.tolist() == list(range(40, 200))
    assert parts.overlap < 0.01
    assert parts.contrast > 0.95


def test_the_first_part_has_the_higher_scores(clouds):
    features, scores, labels, apart = clouds
    parts, _ = split_classes(features, -scores, labels, 0)
    assert parts.second.tolist() == np.flatnonzero(apart).tolist()
    assert parts.contrast > 0.95


def test_one_cloud_falls_into_parts_that_overlap(clouds):
    features, scores, labels, _ = clouds
    _, parts = split_classes(features, scores, labels, 0)
    assert parts.label == 1
    assert set(parts.first) | set(parts.second) == set(range(200, 350))
    assert 0.1 < parts.overlap <= np.log(2)
    assert 0.5 <= parts.contrast < 0.75


def test_split_is_the_same_for_a_seed_and_in_any_order_of_the_classes(clouds):
    features, scores, labels, _ = clouds
    once, again = (split_classes(features, scores, labels, 3) for _ in range(2))
    backwards = split_classes(features, scores, 1 - labels, 3)[::-1]
    for parts, same, other in zip(once, again, backwards, strict=True):
        np.testing.assert_array_equal(parts.probabilities, same.probabilities)
        np.testing.assert_array_equal(parts.probabilities, other.probabilities)
        assert other.label == 1 - parts.label


def test_units_of_the_features_do_not_matter(clouds):
    features, scores, labels, _ = clouds
    units = 10.0 ** np.arange(-6, 6)
    plain, scaled = (
        split_classes(f, scores, labels, 0)[0] for f in (features, features * units + 5)
    )
    assert plain.first.tolist() == scaled.first.tolist()


def spoil_tiny(features, labels):
    return features, np.where(np.arange(350) < 331, 0, 1)  # 19 rows


def spoil_constant(features, labels):
    return np.where(labels[:, None] == 1, features[:1], features), labels


@pytest.mark.parametrize("spoil", [spoil_tiny, spoil_constant])
def test_classes_that_cannot_be_split_are_left_out(clouds, spoil):
    features, scores, labels, _ = clouds
    features, labels = spoil(features, labels)
    assert [parts.label for parts in split_classes(features, scores, labels, 0)] == [0]


def test_constant_columns_say_nothing(clouds):
    features, scores, labels, _ = clouds
    padded = np.hstack([features, np.ones((350, 3), dtype=np.float32)])
    for plain, wide in zip(
        *(split_classes(f, scores, labels, 0) for f in (features, padded)), strict=True
    ):
        np.testing.assert_array_equal(plain.probabilities, wide.probabilities)


@pytest.mark.parametrize(("n_rows", "n_columns"), [(20, 1), (20, 200), (25, 2)])
def test_small_classes_and_wide_features(n_rows, n_columns):
    rng = np.random.default_rng(n_rows)
    features, labels = rng.normal(size=(2 * n_rows, n_columns)), np.repeat([0, 1], n_rows)
    for parts in split_classes(features, rng.normal(size=2 * n_rows), labels, 0):
        assert min(len(parts.first), len(parts.second)) >= 5
        assert np.isfinite(parts.probabilities).all()
