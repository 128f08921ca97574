"""Held-out predictions: diversity and margin by hand, and what the probe is shown."""

from __future__ import annotations

import numpy as np
import pytest
from search_inputs import (
    N_CLASSES,
    N_COLUMNS,
    N_ROWS,
    as_samples,
    class_weights,
    confused,
    linear_network,
    plant,
)

from antibackdoor.detection._probes import (
    confidence_margin,
    predict_held_out,
    prediction_diversity,
)

FIVE = np.array([False, True, True, True, True])


def test_diversity_of_rows_that_are_each_recognised_is_the_entropy_of_their_classes():
    sure = 1000 * np.eye(5)[[1, 1, 2, 2, 3, 3, 4, 4]]
    assert prediction_diversity(sure, FIVE) == pytest.approx(np.log(4))
    sure = 1000 * np.eye(5)[[1, 1, 1, 2]]
    wanted = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert prediction_diversity(sure, FIVE) == pytest.approx(wanted)


@pytest.mark.parametrize("logits_of_a_row", [[0, 0, 9, 0, 0], [0, 1, 1, 1, 1], [0, 3, 1, 0, 2]])
def test_rows_that_are_all_told_the_same_have_no_diversity(logits_of_a_row):
    logits = np.tile(np.array(logits_of_a_row, dtype=float), (7, 1))
    assert prediction_diversity(logits, FIVE) == pytest.approx(0, abs=1e-9)


def test_diversity_by_hand():
    # Two rows, which are given (3/4, 1/4) and (1/4, 3/4): log 2 less the entropy of either.
    known = np.array([False, True, True, False])
    odds = np.log(3)
    logits = np.array([[9.0, odds, 0.0, -5.0], [0.0, 0.0, odds, 7.0]])
    wanted = np.log(2) + 0.75 * np.log(0.75) + 0.25 * np.log(0.25)
    assert prediction_diversity(logits, known) == pytest.approx(wanted)
    # What it says of classes it does not know does not count.
    logits[:, [0, 3]] = logits[:, [3, 0]] * 3
    assert prediction_diversity(logits, known) == pytest.approx(wanted)


def test_margins_by_hand():
    logits = np.array([[99.0, 3.0, 0.0, 0.0, 0.0], [99.0, 1.0, 1.0, 1.0, 1.0]])
    np.testing.assert_allclose(confidence_margin(logits, FIVE), [3 - np.log(3), -np.log(3)])
    # The odds stay the same when all logits rise.
    np.testing.assert_allclose(
        confidence_margin(logits + 50, FIVE), confidence_margin(logits, FIVE)
    )


# ------------------------------------------------------------------- a probe that lacks classes


class Noting:
    """A probe that hands out one network, and notes the rows and the share of the epochs."""

    def __init__(self, network):
        self.network = network
        self.asked = []

    def __call__(self, trained_on, share, network=None):
        self.asked.append((trained_on.copy(), share, network))
        return self.network


def hold_out(classes, X, labels, weight=None, seed=0):
    probe = Noting(linear_network(confused(class_weights()) if weight is None else weight))
    return predict_held_out(np.array(classes), as_samples(X), labels, probe, seed), probe.asked


@pytest.mark.parametrize("classes", [[2], [0, 5]])
def test_the_probe_is_shown_no_row_of_the_held_out_classes(classes):
    X, labels, _ = plant({})
    _, [(trained_on, share, network)] = hold_out(classes, X, labels)
    held_out = np.isin(labels, classes)
    assert not trained_on[held_out].any()
    # Some rows of the classes it knows are kept from it, to compare with.
    assert (~trained_on[~held_out]).sum() == 50
    assert share == 0.5
    assert network is None


def test_a_tenth_of_many_rows_is_compared_with():
    X, labels, _ = plant({}, n_rows=200)
    _, [(trained_on, _, _)] = hold_out([2], X, labels)
    assert (~trained_on[labels != 2]).sum() == 100


def test_of_few_known_rows_half_are_trained_on():
    X, labels, _ = plant({})
    sizes = {0: 22, 1: 22, 2: N_ROWS, 3: 22, 4: 5, 5: 5}
    rows = np.concatenate([np.flatnonzero(labels == label)[:size] for label, size in sizes.items()])
    _, [(trained_on, _, _)] = hold_out([2], X[rows], labels[rows])
    known = labels[rows] != 2
    assert known.sum() < 2 * 50
    assert trained_on.sum() == known.sum() - known.sum() // 2


def test_the_rows_to_compare_with_are_drawn_by_the_seed():
    X, labels, _ = plant({})
    drawn = [hold_out([2], X, labels, seed=seed)[1][0][0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_rows_of_other_classes_are_more_diverse_than_those_of_the_unknown_class():
    X, labels, poison = plant(dict.fromkeys((0, 1, 3, 4, 5), 3))
    prediction, _ = hold_out([2], X, labels)
    assert prediction.known.tolist() == [True, True, False, True, True, True]
    assert prediction.tells_classes_apart
    assert prediction.diversity(np.flatnonzero(poison)) > 0.8
    assert prediction.diversity(np.flatnonzero((labels == 2) & ~poison)) < 0.2
    # As a share of what rows of the known classes have.
    assert prediction.diversity(np.flatnonzero(labels != 2)) == pytest.approx(1, abs=0.1)
    margins = prediction.margins(np.arange(len(labels)))
    np.testing.assert_allclose(margins, confidence_margin(prediction.logits, prediction.known))


def test_a_probe_that_knows_no_class_tells_none_apart():
    X, labels, _ = plant({})
    prediction, _ = hold_out([2], X, labels, weight=np.zeros((N_CLASSES, N_COLUMNS)))
    assert not prediction.tells_classes_apart
