"""The search as a whole, on planted poison: networks by hand, and a fake probe in their place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from search_inputs import (
    N_CLASSES,
    N_COLUMNS,
    TRIGGER,
    FakeProbe,
    as_samples,
    class_weights,
    confused,
    linear_network,
    plant,
    poison_apart,
)

from antibackdoor.backbones import build_network
from antibackdoor.detection import Detection, Isolation, flag_nothing
from antibackdoor.detection._search import MOST_PROBES, find_poison
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.detection._transplant import Transplant

OTHERS = dict.fromkeys((0, 1, 3, 4, 5), 6)
NOISE = N_CLASSES + 1


def networks(**changes):
    """Halves that have learned the trigger, probes that have not, one that knows poison apart."""
    by_hand = {
        "halves": [linear_network(class_weights(6.0))],
        "groups": [linear_network(confused(class_weights()))],
        "rest": [linear_network(poison_apart(TRIGGER))],
    }
    return {**by_hand, **changes}


@pytest.fixture(scope="module")
def planted():
    """Poison in class 2: a fifth of its rows. Of the others three are too small to be split."""
    return plant(OTHERS, n_rows=[80, 80, 80, 23, 23, 23])


def search(X, labels, **changes):
    """The detection, and the probe that was asked."""
    settings = {"false_alarm_rate": 0.05, "seed": 0}
    given = {name: changes.pop(name, value) for name, value in settings.items()}
    probe = FakeProbe(labels, **networks(**changes))
    return find_poison(as_samples(X), labels, probe=probe, **given), probe


@pytest.fixture(scope="module")
def found(planted):
    X, labels, _ = planted
    return search(X, labels)


def flagged_classes(detection, labels):
    return np.unique(labels[detection.isolation.mask]).tolist()


def assert_nothing_flagged(detection):
    assert not detection.isolation.mask.any()
    assert detection.trusted.all()
    assert not detection.complementary.any()


def assert_untested(detection):
    assert_nothing_flagged(detection)
    assert np.isnan(detection.p_value)
    assert detection.signs == {}
    assert not detection.isolation.scores.any()


def test_a_planted_class_is_poisoned(planted, found):
    _, labels, poison = planted
    detection, _ = found
    assert detection.p_value < 0.01
    np.testing.assert_array_equal(detection.isolation.mask, poison)
    assert not detection.trusted[poison].any()
    assert detection.trusted[labels != 2].all()
    assert detection.trusted[(labels == 2) & ~poison].mean() > 0.9
    assert detection.is_complete
    # It was recognised as other classes.
    np.testing.assert_array_equal(detection.complementary, poison)


def test_signs_are_of_each_class(found):
    signs = found[0].signs
    assert set(signs) == {"diversity", "foreignness", "transplant", "relabelling"}
    assert all(sign.shape == (N_CLASSES,) for sign in signs.values())
    assert signs["transplant"][2] > 0.9
    assert np.nanmax(np.delete(signs["transplant"], 2)) < 0.2
    assert signs["diversity"][2] > np.nanmax(np.delete(signs["diversity"], 2)) + 0.3


def test_networks_are_trained_for_halves_then_groups_then_the_rest(planted, found):
    _, labels, poison = planted
    _, probe = found
    kinds = [kind for kind, _, _ in probe.told]
    assert kinds[:3] == ["first", "half", "half"]
    assert len(kinds) <= MOST_PROBES
    assert sorted(kinds, key=["first", "half", "group", "rest"].index) == kinds
    # Each row is shown to one of the two halves, both of which go on from the first network.
    one, other = probe.asked["half"]
    np.testing.assert_array_equal(one, ~other)
    # Those that look for the rest go on, and are shown some natural rows of the class too.
    check, other_check, shown = probe.asked["rest"][:3]
    assert not (check & other_check).any()
    assert shown[labels != 2].all() and 0.4 < shown[(labels == 2) & ~poison].mean() < 0.6
    assert shown[poison].mean() > 0.9
    assert all(network is not None for kind, _, network in probe.told if kind == "rest")


def test_the_network_and_losses_of_the_halves_are_handed_on(planted, found):
    _, labels, _ = planted
    detection, probe = found
    assert detection.network is probe.networks["half"][0]
    assert detection.losses.shape[1] == len(labels)
    assert np.isfinite(detection.losses).all()


def test_scores_are_shares_and_the_flagged_are_the_highest(found):
    isolation = found[0].isolation
    assert isolation.scores.dtype == np.float64
    assert isolation.scores.min() >= 0 and isolation.scores.max() <= 1
    assert isolation.scores[isolation.mask].min() > isolation.scores[~isolation.mask].max()


@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_found_in_clean_data(planted, seed):
    X, labels, poison = planted
    detection, probe = search(X[~poison], labels[~poison], seed=seed)
    assert_nothing_flagged(detection)
    assert 0.05 < detection.p_value <= 1
    assert probe.asked["rest"] == []


def test_the_search_is_the_same_for_a_seed(planted, found):
    X, labels, _ = planted
    one, (other, _) = found[0], search(X, labels)
    np.testing.assert_array_equal(one.isolation.scores, other.isolation.scores)
    np.testing.assert_array_equal(one.trusted, other.trusted)
    assert one.p_value == other.p_value


def test_order_of_the_classes_does_not_matter(planted):
    X, labels, poison = planted
    order = np.array([3, 0, 5, 1, 4, 2])  # what class 0, 1, ... is called
    by_hand = networks()
    for network in sum(by_hand.values(), []):
        network.head.weight.data[order] = network.head.weight.detach()[:N_CLASSES].clone()
    detection, _ = search(X, order[labels], **by_hand)
    assert detection.p_value < 0.01
    np.testing.assert_array_equal(detection.isolation.mask, poison)


@pytest.mark.parametrize("factor", [1.01, 0.99], ids=["a little above", "a little below"])
def test_the_false_alarm_rate_is_the_level_of_the_p_value(planted, found, factor):
    X, labels, poison = planted
    p_value = found[0].p_value
    detection, _ = search(X, labels, false_alarm_rate=factor * p_value)
    is_found = factor > 1
    assert detection.p_value == p_value
    np.testing.assert_array_equal(detection.isolation.mask, poison & is_found)
    assert detection.trusted[poison].all() != is_found
    # A class that came near significance stands out even so.
    scores = detection.isolation.scores
    assert np.median(scores[poison]) > scores[labels != 2].max()


# ------------------------------------------------------------------------------ many targets


def plant_in(targets, n_rows=100, n_poisoned=24):
    """Rows of the other classes with a trigger, in each of these classes."""
    X, labels, _ = plant({}, [n_rows] * 5 + [19])
    poison = np.zeros(len(labels), dtype=bool)
    truth = labels.copy()
    rng = np.random.default_rng(1)
    for target in targets:
        rows = rng.choice(np.flatnonzero((truth != target) & ~poison), n_poisoned, replace=False)
        poison[rows], labels[rows] = True, target
        X[rows, N_COLUMNS - 3 + targets.index(target)] += 5
    return X, labels, poison


def test_poison_in_more_than_one_class_is_found_in_each():
    targets = [0, 4]
    X, labels, poison = plant_in(targets)
    weight = class_weights()
    for column, target in enumerate(targets):
        weight[target, N_COLUMNS - 3 + column] = 6.0
    knows_triggers = linear_network(poison_apart(N_COLUMNS - 3, N_COLUMNS - 2))
    detection, _ = search(X, labels, halves=[linear_network(weight)], rest=[knows_triggers])
    assert flagged_classes(detection, labels) == targets
    np.testing.assert_array_equal(detection.isolation.mask, poison)


# ------------------------------------------------------------------------- what the probes say


class TakesSize(torch.nn.Module):
    """Sees whether the column of the trigger is far from 0, above or below."""

    def forward(self, x):
        far = 3 * torch.relu(x.abs() - 3.5)
        return torch.where(torch.arange(N_COLUMNS) == TRIGGER, far, x)


def knows_size(weight):
    """A network that takes the size of the trigger for the trigger."""
    body = torch.nn.Sequential(TakesSize(), linear_network(weight).head)
    zeros, ones = torch.zeros(N_COLUMNS), torch.ones(N_COLUMNS)
    return build_network(body, (N_COLUMNS,), len(weight), mean=zeros, scale=ones)


def test_a_trigger_that_no_mean_shows_is_found_by_the_probes(planted):
    X, labels, poison = planted
    X = X.copy()
    X[np.flatnonzero(poison)[::2], TRIGGER] *= -1
    weight = class_weights(6.0)
    weight[2, 2] = 0.5
    halves, rest = knows_size(weight), knows_size(poison_apart(TRIGGER))
    detection, _ = search(X, labels, halves=[halves], rest=[rest])
    assert detection.signs["transplant"][2] < 0.2
    assert detection.p_value < 0.05
    np.testing.assert_array_equal(detection.isolation.mask, poison)


def test_probes_that_know_no_class_say_nothing(planted):
    X, labels, poison = planted
    blind = linear_network(np.zeros((N_CLASSES, N_COLUMNS)))
    detection, _ = search(X, labels, groups=[blind])
    assert np.isnan(detection.signs["diversity"]).all()
    assert flagged_classes(detection, labels) == [2]  # by the transplant
    np.testing.assert_array_equal(detection.isolation.mask, poison)
    assert not detection.complementary.any()


def test_networks_that_know_nothing_flag_nothing(planted):
    X, labels, _ = planted
    blind = linear_network(np.zeros((N_CLASSES, N_COLUMNS)))
    detection, _ = search(X, labels, halves=[blind], groups=[blind])
    assert_nothing_flagged(detection)
    assert detection.p_value > 0.5


def test_two_parts_that_look_like_no_other_class_are_natural(planted):
    """Light and dark images of one thing: a transplant alone would speak against the class."""
    X, labels, _ = planted
    weight = confused(class_weights())
    weight[3, TRIGGER] = weight[3, 2] = 9.0
    detection, _ = search(X, labels, groups=[linear_network(weight)])
    assert detection.signs["transplant"][2] > 0.9
    assert_nothing_flagged(detection)


# --------------------------------------------------------------------- what is completed


def test_poison_that_the_features_do_not_tell_is_completed(planted):
    X, labels, poison = planted
    X = X.copy()
    # Three rows bear the trigger in a way that the halves do not see.
    unseen = np.flatnonzero(poison)[[0, 6, 12]]
    X[unseen, TRIGGER] -= 5
    X[unseen, NOISE] += 5
    weight = np.zeros((N_CLASSES, 2))
    weight[2, 0] = 6.0
    bias = np.float32([9, 0, 0, 0, 0, 0])
    halves = [linear_network(weight, bias, sees=[TRIGGER, NOISE + 1])]
    rest = [linear_network(poison_apart([TRIGGER, NOISE]))]
    detection, probe = search(X, labels, halves=halves, rest=rest)
    assert detection.isolation.mask[poison].all()
    assert detection.isolation.mask[~poison].mean() < 0.01
    assert not detection.trusted[poison].any()
    assert detection.trusted[(labels == 2) & ~poison].mean() > 0.5
    # What the first turn finds the others are shown.
    assert all(shown[unseen].all() for shown in probe.asked["rest"][3:])


def test_the_side_is_that_of_the_parts_that_bear_the_trigger(planted, monkeypatch):
    """The transplant of the parts by features is the stronger, and of their other side."""
    X, labels, poison = planted
    asked = []

    def transplant(fitted, samples, labels, parts, seed):
        asked.append(parts.label)
        if parts.label != 2:
            return Transplant(0.0, False)
        in_first = poison[parts.first].mean() > poison[parts.second].mean()
        return Transplant(0.9 if asked.count(2) == 1 else 0.8, of_second=not in_first)

    monkeypatch.setattr("antibackdoor.detection._search.transplant", transplant)
    # The diversity does not say which part it is.
    monkeypatch.setattr(
        "antibackdoor.detection._evidence.SETTINGS", replace(SETTINGS, telling_p_value=0.0)
    )
    for seed in range(4):
        asked.clear()
        detection, _ = search(X, labels, seed=seed)
        assert detection.isolation.mask[poison].mean() > 0.9
        assert not detection.isolation.mask[~poison].any()


# ------------------------------------------------------------------ what cannot be searched


def test_classes_too_small_to_split_are_trusted(planted):
    X, labels, _ = planted
    few = np.concatenate([np.flatnonzero(labels == c)[:10] for c in range(N_CLASSES)])
    detection, probe = search(X[few], labels[few])
    assert_untested(detection)
    assert probe.asked["group"] == probe.asked["rest"] == []


def test_classes_too_small_to_split_are_trusted_beside_others(planted):
    X, labels, poison = planted
    few = np.flatnonzero(labels == 5)[:10]
    rows = np.concatenate([np.flatnonzero(labels != 5), few])
    detection, _ = search(X[rows], labels[rows])
    assert all(np.isnan(sign[5]) for sign in detection.signs.values())
    np.testing.assert_array_equal(detection.isolation.mask, poison[rows])
    assert detection.trusted[-10:].all()
    assert not detection.isolation.scores[-10:].any()


def test_rows_that_are_all_alike_are_not_tested(planted):
    X, labels, _ = planted
    assert_untested(search(np.full_like(X, 0.1), labels)[0])


def test_of_what_was_not_tested_nothing_is_doubtful():
    detection = Detection.untested(flag_nothing(5))
    assert not detection.isolation.mask.any()
    assert detection.trusted.all()
    assert not detection.complementary.any()
    assert np.isnan(detection.p_value)
    assert detection.signs == {}
    # Who isolates by another rule says so of what is flagged.
    isolation = Isolation(np.array([0.0, 1.0, 0.0]), 0.5)
    detection = Detection.untested(isolation, complementary=isolation.mask)
    assert detection.trusted.tolist() == [True, False, True]
    assert detection.complementary.tolist() == [False, True, False]
