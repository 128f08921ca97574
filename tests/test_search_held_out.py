"""Held-out predictions: diversity by hand, how classes are shared out, what a probe is shown."""

from __future__ import annotations

import numpy as np
import pytest
from search_inputs import (
    N_CLASSES,
    N_COLUMNS,
    FakeProbe,
    as_samples,
    class_weights,
    confused,
    linear_network,
    plant,
)

from antibackdoor.detection._cross_fit import cross_fit
from antibackdoor.detection._held_out import predict_held_out, prediction_diversity, share_out


def test_diversity_of_rows_that_are_each_recognised_is_the_entropy_of_their_classes():
    assert prediction_diversity(np.eye(4)[[0, 0, 1, 1, 2, 2, 3, 3]]) == pytest.approx(np.log(4))
    wanted = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert prediction_diversity(np.eye(4)[[1, 1, 1, 2]]) == pytest.approx(wanted)


@pytest.mark.parametrize("row", [[0, 1, 0, 0], [0.25] * 4, [0.5, 0.3, 0.2, 0]])
def test_rows_that_are_all_told_the_same_have_no_diversity(row):
    assert prediction_diversity(np.tile(row, (7, 1))) == pytest.approx(0, abs=1e-9)


def test_diversity_by_hand():
    # Two rows, which are given (3/4, 1/4) and (1/4, 3/4): log 2 less the entropy of either.
    wanted = np.log(2) + 0.75 * np.log(0.75) + 0.25 * np.log(0.25)
    predicted = np.array([[0.75, 0.25], [0.25, 0.75]])
    assert prediction_diversity(predicted) == pytest.approx(wanted)


# ------------------------------------------------------------------- the groups of the classes


@pytest.mark.parametrize("n_classes", [4, 5, 6, 9, 10, 43, 100])
def test_each_class_is_in_one_of_the_groups_and_none_is_too_large(n_classes):
    confusion = np.random.default_rng(n_classes).dirichlet(np.ones(n_classes), n_classes)
    groups = share_out(confusion, np.ones(n_classes, dtype=bool), 4)
    assert groups.min() >= 0 and groups.max() < 4
    assert np.bincount(groups).max() <= -(-n_classes // 4)


@pytest.mark.parametrize("seed", range(3))
def test_classes_that_are_taken_for_one_another_are_in_different_groups(seed):
    pairs = np.random.default_rng(seed).permutation(8).reshape(4, 2)
    confusion = np.eye(8)
    for one, other in pairs:
        confusion[one, other] = 0.4
    groups = share_out(confusion, np.ones(8, dtype=bool), 4)
    assert (groups[pairs[:, 0]] != groups[pairs[:, 1]]).all()


@pytest.mark.parametrize("seed", range(3))
def test_large_classes_are_shared_out_evenly_whatever_the_small_ones_are_like(seed):
    is_large = np.repeat([True, False], [4, 8])
    groups = share_out(np.random.default_rng(seed).random((12, 12)), is_large, 4)
    assert sorted(groups[is_large]) == [0, 1, 2, 3]
    assert np.bincount(groups).tolist() == [3, 3, 3, 3]


# ------------------------------------------------------------------- probes that lack classes


def hold_out(X, labels, weight=None, seed=0):
    """Of a data set, with one network for all probes: what each class is predicted, the probe."""
    weight = confused(class_weights()) if weight is None else weight
    known = linear_network(class_weights(6.0))
    probe = FakeProbe(labels, halves=[known], groups=[linear_network(weight)])
    samples = as_samples(X)
    fitted = cross_fit(samples, labels, probe, seed)
    return predict_held_out(samples, labels, fitted, probe, seed), probe


@pytest.fixture(scope="module")
def planted():
    return plant(dict.fromkeys((0, 1, 3, 4, 5), 5), n_rows=100)


@pytest.fixture(scope="module")
def held_out(planted):
    X, labels, _ = planted
    return hold_out(X, labels)


def test_each_class_is_unknown_to_two_probes(planted, held_out):
    _, labels, _ = planted
    predictions, probe = held_out
    assert sorted(predictions) == list(range(N_CLASSES))
    lacks = [sorted(set(labels) - set(labels[shown])) for shown in probe.asked["group"]]
    assert sorted(sum(lacks, [])) == sorted(2 * list(range(N_CLASSES)))
    # Of the classes it knows a probe is shown most rows, and each is trained from anew.
    for missing, shown in zip(lacks, probe.asked["group"], strict=True):
        assert 0.5 < shown[~np.isin(labels, missing)].mean() < 1
        for label in missing:
            assert predictions[label].probabilities.shape == (len(labels), 6 - len(missing))
    told = [(share, network) for kind, share, network in probe.told if kind == "group"]
    assert all(0 < share < 1 and network is None for share, network in told)
    # They alone are trained under triggers of our own.
    assert probe.disturbed == [kind == "group" for kind, _, _ in probe.told]


def test_the_rows_to_compare_with_are_unseen_and_recognised(planted):
    X, labels, _ = planted
    X = X.copy()
    odd = np.arange(len(labels)) % 3 == 0  # no network knows these for what they are
    X[odd] = 0
    predictions, probe = hold_out(X, labels)
    for shown in probe.asked["group"]:
        missing = set(labels) - set(labels[shown])
        for label in missing:
            compared = predictions[label].compared
            assert len(compared) > 0
            assert not shown[compared].any()
            assert not odd[compared].any()
            assert not missing & set(labels[compared])


def test_the_rows_to_compare_with_are_drawn_by_the_seed(planted):
    X, labels, _ = planted
    drawn = [hold_out(X, labels, seed=seed)[0][2].compared.tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_rows_of_other_classes_are_more_diverse_than_those_of_the_unknown_class(planted, held_out):
    _, labels, poison = planted
    prediction = held_out[0][2]
    assert prediction.tells_classes_apart
    assert prediction.diversity(np.flatnonzero(poison)) > 0.6
    assert prediction.diversity(np.flatnonzero((labels == 2) & ~poison)) < 0.2
    # As a share of what rows of the known classes have.
    known = np.flatnonzero(np.isin(labels, np.unique(labels[prediction.compared])))
    assert prediction.diversity(known) == pytest.approx(1, abs=0.2)


def test_a_probe_that_knows_no_class_tells_none_apart(planted):
    X, labels, _ = planted
    predictions, _ = hold_out(X, labels, weight=np.zeros((N_CLASSES, N_COLUMNS)))
    assert not any(prediction.tells_classes_apart for prediction in predictions.values())


def test_what_two_probes_say_is_averaged(planted):
    X, labels, _ = planted
    weights = [confused(class_weights()), np.zeros((N_CLASSES, N_COLUMNS))]
    one, blind = (hold_out(X, labels, weight)[0] for weight in weights)
    samples = as_samples(X)
    networks = [linear_network(weight) for weight in weights]
    # Every group has the one and then the other.
    probe = FakeProbe(labels, halves=[linear_network(class_weights(6.0))], groups=4 * networks)
    both = predict_held_out(samples, labels, cross_fit(samples, labels, probe, 0), probe, 0)
    for label in range(N_CLASSES):
        mean = (one[label].probabilities + blind[label].probabilities) / 2
        np.testing.assert_allclose(both[label].probabilities, mean)


def test_where_no_row_is_recognised_there_is_nothing_to_compare_with(planted):
    X, labels, _ = planted
    samples = as_samples(X)
    networks = [linear_network(np.zeros((N_CLASSES, N_COLUMNS)))]
    probe = FakeProbe(labels, halves=networks, groups=[linear_network(class_weights())])
    fitted = cross_fit(samples, labels, probe, 0)
    for prediction in predict_held_out(samples, labels, fitted, probe, 0).values():
        assert len(prediction.compared) == 0
        assert not prediction.tells_classes_apart


@pytest.mark.parametrize("n_classes", [4, 5])
def test_of_few_classes_a_probe_knows_three_at_least(n_classes):
    X, labels, _ = plant({})
    rows = labels < n_classes
    weight = class_weights()[:n_classes]
    probe = FakeProbe(
        labels[rows], halves=[linear_network(weight)], groups=[linear_network(weight)]
    )
    samples = as_samples(X[rows])
    fitted = cross_fit(samples, labels[rows], probe, 0)
    for prediction in predict_held_out(samples, labels[rows], fitted, probe, 0).values():
        assert prediction.probabilities.shape[1] >= 3
