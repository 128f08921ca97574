"""The rest of the poison: rounds of a network that is handed out, whose log odds are given."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from search_inputs import as_samples, linear_network

from antibackdoor.detection._completion import find_rest

SURE = 12.0  # log odds that are a probability of 1 or 0 to five digits
N_SHOWN = 5  # rounds, at most


class Rounds:
    """Classes 0 and 1 with flagged rows first, and class 2; log odds of all rows, by round."""

    def __init__(self, n_flagged=(10, 0), n_left=(60, 0)):
        sizes = [n_flagged[0], n_left[0], n_flagged[1], n_left[1], 30]
        self.labels = np.repeat([0, 0, 1, 1, 2], sizes)
        self.flagged = np.repeat([True, False, True, False, False], sizes)
        self.left = [np.flatnonzero((self.labels == c) & ~self.flagged) for c in (0, 1)]
        self.told = []
        self.networks = []

    def ask(self, *odds):
        """Complete with these log odds of what is left of class 0, or of both, in each round."""
        X = np.zeros((len(self.labels), 2 * N_SHOWN))
        for n_round, of_round in enumerate(odds):
            both = of_round if isinstance(of_round, tuple) else (of_round,)
            for label, values in enumerate(both):
                # Against two others, whose logits are 0.
                X[self.left[label], 2 * n_round + label] = np.array(values) + np.log(2)
        samples = as_samples(X.astype(np.float32))

        def probe(trained_on, share, network=None):
            weight = np.zeros((3, 2 * N_SHOWN))
            weight[[0, 1], 2 * len(self.told) + np.array([0, 1])] = 1
            self.told.append((trained_on.copy(), share, network))
            self.networks.append(linear_network(weight))
            return self.networks[-1]

        classes = np.unique(self.labels[self.flagged])
        return find_rest(self.flagged, classes, samples, self.labels, probe)


def among_natural(*values, n_rows=60, natural=-SURE):
    """Log odds of a class: these first, then those of rows that do not bear the trigger."""
    return np.concatenate([values, np.full(n_rows - len(values), natural)])


@pytest.mark.parametrize(
    ("probabilities", "n_rounds"),
    [
        ([[0.9, 0.9, 0.9]] * 5, 2),
        ([[0.2, 0.2, 0.2]] * 5, 1),
        # Likely enough to be shown, not to be flagged.
        ([[0.4, 0.2, 0.0], [0.4, 0.2, 0.0]], 2),
        ([[0.4, 0.2, 0.0], [0.9, 0.4, 0.2], [0.9, 0.9, 0.4], [0.9, 0.9, 0.9]], 4),
        # One that goes and comes back is a find each time; five rounds are the end of it.
        ([[0.4, 0, 0], [0, 0.4, 0], [0.4, 0, 0], [0, 0.4, 0], [0.6, 0, 0.6]], 5),
    ],
    ids=["at once", "none", "unsure", "one by one", "without end"],
)
def test_what_a_round_finds_the_next_is_shown(probabilities, n_rounds):
    rounds = Rounds()
    given = [logit(np.clip(told, expit(-SURE), 1)) for told in probabilities]
    triggered = rounds.ask(*(among_natural(*odds) for odds in given))
    rows = rounds.left[0][:3]
    np.testing.assert_allclose(triggered[rows], probabilities[n_rounds - 1], atol=1e-4)
    assert (triggered[rounds.left[0][3:]] < 1e-4).all()
    shown = [trained_on[rows].tolist() for trained_on, _, _ in rounds.told]
    likely = [[False] * 3, *((np.array(told) > 0.3).tolist() for told in probabilities)]
    assert shown == likely[:n_rounds]
    # Beside the flagged rows and the other class it is shown nothing else.
    for trained_on, _, _ in rounds.told:
        assert trained_on[rounds.flagged | (rounds.labels == 2)].all()
        assert not trained_on[rounds.left[0][3:]].any()
    # One network, trained further and further.
    shares = [share for _, share, _ in rounds.told]
    assert shares == [0.3, 0.1, 0.1, 0.1, 0.1][:n_rounds]
    assert [network for _, _, network in rounds.told] == [None, *rounds.networks[:-1]]


def test_other_rows_have_no_probability():
    rounds = Rounds()
    triggered = rounds.ask(among_natural(5.0), among_natural(5.0))
    elsewhere = rounds.flagged | (rounds.labels == 2)
    assert not triggered[elsewhere].any()
    assert triggered[rounds.left[0][0]] > 0.9


def test_where_no_class_is_flagged_nothing_is_asked():
    rounds = Rounds(n_flagged=(0, 0))
    assert not rounds.ask().any()
    assert rounds.told == []


def test_a_round_of_few_finds_is_the_last():
    # Of twelve that the split flags a tenth is more than one row, but not more than two.
    rounds = Rounds(n_flagged=(12, 0))
    triggered = rounds.ask(among_natural(5.0, 4.0, -9.0), among_natural(5.0, 4.0, 6.0))
    assert len(rounds.told) == 2
    assert (triggered[rounds.left[0][:3]] > 0.9).all()


def test_each_class_ends_its_rounds_for_itself():
    """Two classes: to one a round finds a row of forty, to the other all that it is shown."""
    rounds = Rounds(n_flagged=(40, 10), n_left=(20, 65))
    found = [(1, 3), (9, 6), (0, 6)]
    triggered = rounds.ask(
        *(
            tuple(
                among_natural(*[9.0] * n_found, n_rows=n_rows, natural=-9.0)
                for n_found, n_rows in zip(of_round, (20, 65), strict=True)
            )
            for of_round in found
        )
    )
    assert [np.count_nonzero(triggered[rows] > 0.5) for rows in rounds.left] == [1, 6]
    assert len(rounds.told) == 3


@pytest.mark.parametrize(
    "odds",
    [among_natural(*[5.0] * 31), among_natural(*[5.0] * 21)],
    ids=["likely for most", "more than a third stand out"],
)
def test_a_network_that_has_learned_the_class_is_not_heard(odds):
    rounds = Rounds()
    assert not rounds.ask(odds).any()
    assert len(rounds.told) == 1
    # What the round before had found stays.
    rounds = Rounds()
    triggered = rounds.ask(among_natural(5.0, 4.0), odds)
    assert np.flatnonzero(triggered > 0.5).tolist() == rounds.left[0][:2].tolist()
    assert len(rounds.told) == 2


@pytest.mark.parametrize(
    ("natural", "triggered", "middle", "factor"),
    [
        # The middle of the two groups is below even odds, which are the bound then.
        ([-9.0, -8.0, -7.0, -6.0, -5.0, -5.0], [1.0, 2.0], 0.0, 1.0),
        # The label is likely enough for natural rows that their odds are near even.
        # The median, -0.25, is 3.25 from there, and half of that counts as log 9, for a tenth.
        ([-3.0, -2.0, -1.0, 0.0, 0.5, -0.5], [6.0, 8.0], 3.0, np.log(9) / 1.625),
    ],
)
def test_even_odds_are_in_the_middle_of_the_groups_if_that_is_higher(
    natural, triggered, middle, factor
):
    odds = np.array(natural + triggered)
    rounds = Rounds(n_left=(8, 0))
    told = rounds.ask(odds, odds)[rounds.left[0]]
    np.testing.assert_allclose(told, expit(factor * (odds - middle)), rtol=1e-4)


def test_where_a_network_is_hardly_surer_of_one_row_not_all_are_doubtful():
    """Natural rows of odds near one to six: a tenth and more, all of them."""
    natural = np.random.default_rng(0).normal(-1.8, 0.3, 400)
    assert (expit(natural) > 0.1).mean() > 0.9
    rounds = Rounds(n_flagged=(100, 0), n_left=(401, 0))
    told = rounds.ask(np.append(natural, 4.0))[rounds.left[0]]
    assert (told[:-1] > 0.1).mean() < 0.02
    # As far above even odds as the median is below: twice the way to the odds of a doubtful row.
    assert told[-1] == pytest.approx(81 / 82, abs=0.002)


@pytest.mark.parametrize("odds", [-3.0, 0.0])
def test_equal_odds_are_no_reason_to_flag(odds):
    rounds = Rounds()
    triggered = rounds.ask(np.full(60, odds))
    assert not (triggered > 0.5).any()
