"""The rest of the poison: turns of a network that is handed out, whose log odds are given."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from search_inputs import as_samples, fit_halves, linear_network

from antibackdoor.detection._completion import find_rest
from antibackdoor.detection._probes import Trained
from antibackdoor.detection._settings import SETTINGS

N_CLASSES = 3
# What each network is trained for, turn by turn.
OF_A_NETWORK = [SETTINGS.completion_epochs]
OF_A_NETWORK += [SETTINGS.completion_further] * (SETTINGS.completion_turns - 1)
SHARES = [SETTINGS.check_epochs] * 2 + OF_A_NETWORK * 2
# Of a search whose check drops nothing.
N_TURNS = len(SHARES)


class Turns:
    """Classes 0 and 1 with known poison first, and class 2; log odds of all rows, by turn."""

    def __init__(self, n_known=(10, 0), n_left=(60, 0), suspicion=None):
        sizes = [n_known[0], n_left[0], n_known[1], n_left[1], 30]
        self.labels = np.repeat([0, 0, 1, 1, 2], sizes)
        self.known = np.repeat([True, False, True, False, False], sizes)
        self.left = [np.flatnonzero((self.labels == c) & ~self.known) for c in (0, 1)]
        self.suspicion = np.where(self.known, 0.9, 0.0)
        if suspicion is not None:
            self.suspicion[self.left[0]] = suspicion
        self.told = []
        # Of the known poison, in all turns.
        self.of_known = [np.zeros(n_rows) for n_rows in n_known]
        # Rows that the networks take for natural, where they do not take them for poison.
        self.natural = np.zeros(len(self.labels), dtype=bool)
        self.foreignness = np.zeros(len(self.labels))

    def ask(self, *odds):
        """Complete with these log odds of what is left of each class; the last ones to the end."""
        classes = np.unique(self.labels[self.known])
        X = np.zeros((len(self.labels), len(odds) * len(classes) + N_CLASSES), np.float32)
        for turn, of_turn in enumerate(odds):
            for number, values in enumerate(of_turn):
                # Against all other outputs, whose logits are 0.
                others = np.log(N_CLASSES + len(classes) - 1)
                X[self.left[classes[number]], turn * len(classes) + number] = values + others
                of_known = self.known & (self.labels == classes[number])
                X[of_known, turn * len(classes) + number] = self.of_known[classes[number]] + others
        X[np.flatnonzero(self.natural), self.labels[self.natural] - N_CLASSES] = 5.0

        def probe(trained_on, share, network=None, *, gently=False, labels):
            # Copies of the cross-fitted networks are trained further, one after the other.
            assert gently and network is not None
            assert network not in self.fitted.networks
            turn = min(len(self.told), len(odds) - 1)
            weight = np.zeros((N_CLASSES + len(classes), X.shape[1]))
            weight[:N_CLASSES, -N_CLASSES:] = np.eye(N_CLASSES)
            for number in range(len(classes)):
                weight[N_CLASSES + number, turn * len(classes) + number] = 1
            self.told.append((trained_on.copy(), share, labels.copy()))
            return Trained(linear_network(weight), np.empty((0, len(self.labels))))

        halves = [linear_network(weight * np.eye(N_CLASSES)) for weight in (1, 2)]
        seen = np.zeros((len(X), N_CLASSES), np.float32)
        self.fitted = fit_halves(seen, self.labels, *halves)
        samples = as_samples(X)
        scores, self.probabilities = find_rest(
            self.suspicion, self.foreignness, classes, samples, self.labels, self.fitted, probe
        )
        return scores


def among_natural(*values, n_rows=60):
    """Log odds of a class: these first, then those of rows that do not bear the trigger."""
    return np.concatenate([values, np.full(n_rows - len(values), -9.0)])


#: Turns that find one row more each.
EVER_MORE = [[among_natural(*[9.0] * n_found)] for n_found in range(N_TURNS)]


def test_the_odds_of_the_last_turn_tell():
    turns = Turns()
    odds = among_natural(*[9.0] * 9, 1.0, 0.1, -0.1)
    told = turns.ask(*EVER_MORE[:-1], [odds])
    np.testing.assert_allclose(told[turns.left[0]], expit(odds), rtol=1e-4)
    assert len(turns.told) == N_TURNS


def test_a_network_that_finds_next_to_nothing_more_has_no_further_turn():
    turns = Turns(n_known=(100, 0))
    four, six, seven = ([among_natural(*[9.0] * n_found)] for n_found in (4, 6, 7))
    turns.ask([among_natural()], [among_natural()], four, six, four, seven)
    # The second turn of the first network finds two more than a hundred and four: it is the last.
    # So is that of the next one.
    assert len(turns.told) == 6


def test_poison_is_shown_as_a_class_of_its_own_and_other_classes_as_they_are():
    turns = Turns()
    turns.ask(*EVER_MORE)
    for number, (shown, _, labels) in enumerate(turns.told):
        # To check what is known, each network is shown its half of the rows.
        may_be_shown = turns.fitted.half == number if number < 2 else np.ones(len(shown), bool)
        assert (shown[turns.known] == may_be_shown[turns.known]).all()
        assert (shown[turns.labels == 2] == may_be_shown[turns.labels == 2]).all()
        assert not shown[~may_be_shown].any()
        assert (labels[turns.known] == N_CLASSES).all()
        others = turns.labels != 0
        np.testing.assert_array_equal(labels[others], turns.labels[others])
    assert [share for _, share, _ in turns.told] == SHARES


def test_what_a_turn_finds_the_next_is_shown_as_poison():
    turns = Turns()
    first, then = among_natural(9.0, 9.0), among_natural(-9.0, 9.0, 9.0, 9.0)
    turns.ask(*[[first]] * 3, [then])
    rows = turns.left[0][:3]
    called = [(labels[rows] == N_CLASSES).tolist() for _, _, labels in turns.told]
    nothing, found, found_then = [False] * 3, [True, True, False], [False, True, True]
    # The check alone finds nothing.
    assert called[:5] == [nothing, nothing, nothing, found, found_then]
    for (shown, _, _), of_turn in list(zip(turns.told, called, strict=True))[2:]:
        assert shown[rows][of_turn].all()


def test_of_the_others_the_least_suspect_are_shown_and_more_of_them_in_later_turns():
    suspicion = np.linspace(0.4, 0.0, 60)
    turns = Turns(suspicion=suspicion)
    of_natural = np.linspace(-1, -9, 60)
    odds = [np.where(np.arange(60) < n, 9.0, of_natural) for n in range(N_TURNS)]
    turns.ask(*([one] for one in odds))
    natural = [
        shown[turns.left[0]] & (called[turns.left[0]] == 0) for shown, _, called in turns.told
    ]
    assert (natural[0] | natural[1])[30:].all() and not (natural[0] | natural[1])[:30].any()
    shares = np.linspace(*SETTINGS.shown_natural, N_TURNS - 2)
    for turn, (of_turn, share) in enumerate(zip(natural[2:], shares, strict=True), 1):
        n_found = turn if turn > 1 else 0  # what the check finds is not called poison yet
        n_shown = int(share * (60 - n_found))
        assert of_turn[-n_shown:].all() and of_turn.sum() == n_shown


def looks_natural(turns, which, label=0):
    """Make both networks take these rows of known poison for natural."""
    rows = np.flatnonzero(turns.known & (turns.labels == label))[which]
    turns.natural[rows] = True
    turns.foreignness[rows] = -1.0
    turns.of_known[label][which] = -9.0


def test_known_poison_that_two_networks_take_for_natural_is_not_known_any_more():
    turns = Turns(n_known=(100, 0))
    looks_natural(turns, slice(0, 3))  # the others are in doubt
    told = turns.ask([among_natural()])
    known = np.flatnonzero(turns.known)
    assert (told[known[:3]] < 0.01).all() and np.isnan(told[known[3:]]).all()
    # What is left is checked again, by networks that are shown those rows as natural.
    assert [share for _, share, _ in turns.told[:5]] == [SETTINGS.check_epochs] * 4 + SHARES[2:3]
    for _, _, called in turns.told[2:]:
        assert (called[known[:3]] == 0).all() and (called[known[3:]] == N_CLASSES).all()


def test_poison_that_one_of_them_takes_for_another_class_stays_known():
    """A network that hardly knows the trigger does not take it for poison."""
    turns = Turns(n_known=(100, 0))
    looks_natural(turns, slice(0, 6))
    turns.foreignness[0:3] = 1.0
    turns.natural[3:6] = False
    told = turns.ask([among_natural()])
    assert np.isnan(told[turns.known]).all() and turns.told[2][1] == SETTINGS.completion_epochs


def test_where_all_known_poison_looks_natural_a_share_is_dropped():
    turns = Turns(n_known=(100, 0))
    looks_natural(turns, slice(0, 100))
    told = turns.ask([among_natural()])
    assert np.isfinite(told[turns.known]).sum() == 100 * SETTINGS.most_mistaken


def test_it_is_a_share_of_each_class():
    """Four rows of class 1 are a small share of all that are known."""
    turns = Turns(n_known=(100, 4), n_left=(60, 60))
    looks_natural(turns, slice(None), label=1)
    told = turns.ask([among_natural(), among_natural()])
    assert np.isnan(told[turns.known]).all()


def test_a_row_is_found_that_is_as_sure_as_known_poison_was():
    turns = Turns(n_known=(20, 0))
    turns.of_known[0][:] = 1.0
    odds = among_natural(9.0, 1.5, 0.5)
    told = turns.ask([odds])[turns.left[0]]
    np.testing.assert_allclose(told, expit(odds - 1.0), rtol=1e-4)
    # Whether a row is doubtful goes by its probability.
    np.testing.assert_allclose(turns.probabilities[turns.left[0]], expit(odds), rtol=1e-4)


def test_each_class_has_a_threshold_of_its_own():
    turns = Turns(n_known=(20, 20), n_left=(60, 60))
    turns.of_known[0][:] = 1.0
    told = turns.ask([among_natural(0.5), among_natural(0.5)])
    assert told[turns.left[0][0]] < 0.5 < told[turns.left[1][0]]


@pytest.mark.parametrize(("odds", "threshold"), [(-3.0, SETTINGS.poison), (9.0, SETTINGS.surest)])
def test_how_sure_that_is_has_its_limits(odds, threshold):
    turns = Turns(n_known=(20, 0))
    turns.of_known[0][:] = odds
    of_rest = among_natural(2.0, logit(threshold))
    told = turns.ask([of_rest])[turns.left[0]]
    assert told[1] == pytest.approx(0.5, rel=1e-4)


def test_each_class_has_poison_of_its_own():
    turns = Turns(n_known=(10, 5), n_left=(60, 20))
    odds = [among_natural(9.0, 9.0), among_natural(9.0, n_rows=20)]
    told = turns.ask(odds)
    for label, n_found in ((0, 2), (1, 1)):
        rows = turns.left[label]
        assert np.flatnonzero(told[rows] > 0.5).tolist() == list(range(n_found))
        _, _, called = turns.told[-1]
        assert (called[turns.known & (turns.labels == label)] == N_CLASSES + label).all()
        assert (called[rows[:n_found]] == N_CLASSES + label).all()
    elsewhere = turns.known | (turns.labels == 2)
    assert np.isnan(told[elsewhere]).all()


@pytest.mark.parametrize("n_left", [0, 1])
def test_a_class_of_poison_alone_has_no_rest(n_left):
    turns = Turns(n_left=(n_left, 0))
    told = turns.ask([np.full(n_left, -3.0)])
    assert not (told > 0.5).any()
    assert np.isfinite(told).sum() == n_left
