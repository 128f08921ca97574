"""The rest of the poison: rounds of a network that is handed out, whose log odds are given."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from search_inputs import as_samples, linear_network

from antibackdoor.detection._completion import find_rest
from antibackdoor.detection._probes import Trained
from antibackdoor.detection._settings import SETTINGS

SURE = 12.0  # log odds that are a probability of 1 or 0 to five digits
N_ROUNDS = SETTINGS.completion_rounds


class Rounds:
    """Classes 0 and 1 with flagged rows first, and class 2; log odds of all rows, by round."""

    def __init__(self, n_flagged=(10, 0), n_left=(60, 0)):
        sizes = [n_flagged[0], n_left[0], n_flagged[1], n_left[1], 30]
        self.labels = np.repeat([0, 0, 1, 1, 2], sizes)
        self.flagged = np.repeat([True, False, True, False, False], sizes)
        self.left = [np.flatnonzero((self.labels == c) & ~self.flagged) for c in (0, 1)]
        self.told = []

    def ask(self, *odds, of_flagged=SURE):
        """Complete with these log odds of what is left of class 0, or of both, in each round."""
        X = np.zeros((len(self.labels), 2 * N_ROUNDS))
        for n_round, of_round in enumerate(odds):
            both = of_round if isinstance(of_round, tuple) else (of_round,)
            for label, values in enumerate(both):
                # Against two others, whose logits are 0.
                column = 2 * n_round + label
                X[self.left[label], column] = np.array(values) + np.log(2)
                X[self.flagged & (self.labels == label), column] = of_flagged + np.log(2)
        samples = as_samples(X.astype(np.float32))

        def probe(trained_on, share, network=None):
            assert network is None, "a network of before is trained further"
            weight = np.zeros((3, 2 * N_ROUNDS))
            weight[[0, 1], 2 * len(self.told) + np.array([0, 1])] = 1
            self.told.append((trained_on.copy(), share))
            return Trained(linear_network(weight), np.empty((0, len(self.labels))))

        classes = np.unique(self.labels[self.flagged])
        return find_rest(self.flagged, classes, samples, self.labels, probe)


def among_natural(*values, n_rows=60, natural=-SURE):
    """Log odds of a class: these first, then those of rows that do not bear the trigger."""
    return np.concatenate([values, np.full(n_rows - len(values), natural)])


@pytest.mark.parametrize(
    ("odds", "n_rounds"),
    [
        ([[9, 9, 9]] * 2, 2),
        ([[-9, -9, -9]] * 2, 1),
        ([[9, -9, -9], [9, 9, -9]], 2),
        ([[9, -9, -9], [-9, 9, 9]], 2),
    ],
    ids=["at once", "none", "one by one", "another"],
)
def test_what_a_round_finds_the_next_is_shown(odds, n_rounds):
    rounds = Rounds()
    told = rounds.ask(*(among_natural(*of_round) for of_round in odds))
    rows = rounds.left[0][:3]
    np.testing.assert_array_equal(told[rows] > 0.5, np.array(odds[n_rounds - 1]) > 0)
    assert (told[rounds.left[0][3:]] < 0.01).all()
    shown = [trained_on[rows].tolist() for trained_on, _ in rounds.told]
    likely = [[False] * 3, *((np.array(of_round) > 0).tolist() for of_round in odds)]
    assert shown == likely[:n_rounds]
    # Beside the flagged rows and the other class it is shown nothing else.
    for trained_on, share in rounds.told:
        assert trained_on[rounds.flagged | (rounds.labels == 2)].all()
        assert not trained_on[rounds.left[0][3:]].any()
        assert share == SETTINGS.completion_epochs


def test_nothing_is_told_of_other_rows():
    rounds = Rounds()
    told = rounds.ask(among_natural(5.0), among_natural(5.0))
    elsewhere = rounds.flagged | (rounds.labels == 2)
    assert np.isnan(told[elsewhere]).all()
    assert told[rounds.left[0][0]] > 0.9


def test_a_flagged_row_is_shown_in_every_round_whatever_is_said_of_it():
    rounds = Rounds()
    rounds.ask(among_natural(9.0), among_natural(9.0, 9.0), of_flagged=-SURE)
    assert len(rounds.told) == 2
    assert all(trained_on[rounds.flagged].all() for trained_on, _ in rounds.told)


def test_where_no_class_is_flagged_nothing_is_asked():
    rounds = Rounds(n_flagged=(0, 0))
    assert np.isnan(rounds.ask()).all()
    assert rounds.told == []


def test_a_round_that_changes_little_is_the_last():
    # Of a hundred flagged rows two are one in fifty, and three are more.
    for n_found, n_rounds in ((2, 1), (3, 2)):
        rounds = Rounds(n_flagged=(100, 0))
        told = rounds.ask(*[among_natural(*[9.0] * n_found)] * 2)
        assert len(rounds.told) == n_rounds
        assert np.count_nonzero(told > 0.5) == n_found


def test_each_class_ends_its_rounds_for_itself():
    """Two classes: to one nothing is added, to the other in both rounds."""
    rounds = Rounds(n_flagged=(40, 10), n_left=(20, 65))
    found = [(0, 3), (9, 6)]
    told = rounds.ask(
        *(
            tuple(
                among_natural(*[9.0] * n_found, n_rows=n_rows, natural=-9.0)
                for n_found, n_rows in zip(of_round, (20, 65), strict=True)
            )
            for of_round in found
        )
    )
    assert [np.count_nonzero(told[rows] > 0.5) for rows in rounds.left] == [0, 6]
    assert len(rounds.told) == 2


def test_a_network_that_has_learned_the_class_is_not_heard():
    learned = among_natural(*[5.0] * 31)
    rounds = Rounds()
    assert np.isnan(rounds.ask(learned)).all()
    assert len(rounds.told) == 1
    # What the round before had found stays.
    rounds = Rounds()
    told = rounds.ask(among_natural(5.0, 4.0), among_natural(*[5.0] * 33))
    assert np.flatnonzero(told > 0.5).tolist() == rounds.left[0][:2].tolist()
    assert len(rounds.told) == 2


def test_most_of_what_is_left_may_be_poison_by_little():
    rounds = Rounds()
    told = rounds.ask(*[among_natural(*[SURE] * 29)] * 2)
    assert np.count_nonzero(told > 0.5) == 29


@pytest.mark.parametrize(
    ("natural", "triggered", "of_flagged", "middle", "factor"),
    [
        # The middle of the two groups is below even odds, which are the bound then.
        ([-9.0, -8.0, -7.0, -6.0, -5.0, -5.0], [1.0, 2.0], 1.5, 0.0, 1.0),
        # The label is likely enough for natural rows that their odds are near even. Their median,
        # -0.75, is 3.75 from there, and half of that counts as log 9, for a tenth.
        ([-3.0, -2.0, -1.0, 0.0, 0.5, -0.5], [6.0, 8.0], 7.0, 3.0, np.log(9) / 1.875),
    ],
)
def test_even_odds_are_in_the_middle_of_the_groups_if_that_is_higher(
    natural, triggered, of_flagged, middle, factor
):
    odds = np.array(natural + triggered)
    rounds = Rounds(n_left=(8, 0))
    told = rounds.ask(odds, odds, of_flagged=of_flagged)[rounds.left[0]]
    np.testing.assert_allclose(told, expit(factor * (odds - middle)), rtol=0.01)


def test_where_a_network_is_hardly_surer_of_one_row_not_all_are_doubtful():
    """Natural rows of odds near one to six: a tenth and more, all of them."""
    natural = np.random.default_rng(0).normal(-1.8, 0.3, 400)
    assert (expit(natural) > 0.1).mean() > 0.9
    rounds = Rounds(n_flagged=(100, 0), n_left=(401, 0))
    told = rounds.ask(np.append(natural, 4.0), of_flagged=4.0)[rounds.left[0]]
    assert (told[:-1] > 0.1).mean() < 0.02
    assert told[-1] > 0.95


@pytest.mark.parametrize("odds", [-3.0, 0.0])
def test_equal_odds_are_no_reason_to_flag(odds):
    told = Rounds().ask(np.full(60, odds), of_flagged=odds)
    assert not (told > 0.5).any()
