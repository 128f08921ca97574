"""From suspicion scores to flagged rows, by hand."""

import numpy as np

from antibackdoor.detection import flag_most_suspect, flag_nothing, least_suspect_half
from antibackdoor.detection._losses import LOSS_SCORES


def test_scores_by_hand():
    losses = np.exp(np.array([[0.0, -2.0], [-4.0, -4.0]]))
    np.testing.assert_allclose(LOSS_SCORES["trajectory"](losses), [2.0, 3.0], rtol=1e-5)
    np.testing.assert_allclose(LOSS_SCORES["last_epoch"](losses), [4.0, 4.0], rtol=1e-5)


def test_flag_most_suspect_by_hand():
    isolation = flag_most_suspect(np.array([0.1, 0.9, 0.3, 0.8, 0.2]), 0.4)
    assert isolation.threshold == 0.3
    assert isolation.indices.tolist() == [1, 3]
    assert isolation.mask.tolist() == [False, True, False, True, False]


def test_scores_that_all_tie_flag_nobody():
    assert len(flag_most_suspect(np.ones(10), 0.2).indices) == 0
    assert len(flag_nothing(10).indices) == 0


def test_least_suspect_half_of_every_class():
    scores = np.array([0.9, 0.1, 0.5, 0.7, 0.2])
    labels = np.array([0, 0, 0, 1, 2])
    nobody = np.zeros(5, dtype=bool)
    assert least_suspect_half(scores, labels, nobody).tolist() == [False, True, True, True, True]
    # A flagged row is trusted only where its class has no other.
    flagged = np.array([False, True, False, True, False])
    assert least_suspect_half(scores, labels, flagged).tolist() == [False, False, True, True, True]
