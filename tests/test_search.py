"""The search as a whole, on planted poison: networks by hand, and a fake probe in their place."""

from __future__ import annotations

import numpy as np
import pytest
from search_inputs import (
    N_CLASSES,
    N_COLUMNS,
    N_ROWS,
    TRIGGER,
    FakeProbe,
    as_samples,
    class_weights,
    confused,
    linear_network,
    plant,
)

from antibackdoor.detection import Detection, Isolation, flag_nothing
from antibackdoor.detection._search import find_poison

OTHERS = dict.fromkeys((0, 1, 3, 4, 5), 3)
NOISE = [N_CLASSES + 1, N_CLASSES + 2]


def only_trigger():
    """A network to which class 2 is nothing but the trigger."""
    weight = class_weights(6.0)
    weight[2, 2] = -2
    return linear_network(weight)


def make_planted():
    X, labels, poison = plant(OTHERS)
    probe = FakeProbe(linear_network(confused(class_weights())), only_trigger())
    return X, labels, poison, linear_network(class_weights(6.0)), probe


@pytest.fixture
def planted():
    """Poison in class 2, a network that has learned its trigger, and a probe.

    Its new network has not learned the trigger; to the other the class is nothing else.
    """
    return make_planted()


@pytest.fixture(scope="module")
def found():
    """What is found in them, by a search as the others are."""
    X, labels, _, network, probe = make_planted()
    return search(X, labels, network, probe)


def search(X, labels, network, probe, **changes):
    scores = np.random.default_rng(1).normal(size=len(X))
    probe.labels = labels
    settings = {"scores": scores, "probe": probe, "false_alarm_rate": 0.05, "seed": 0}
    return find_poison(network, as_samples(X), labels, **{**settings, **changes})


def flagged_classes(detection, labels):
    return np.unique(labels[detection.isolation.mask]).tolist()


def assert_untested(detection, probe):
    assert np.isnan(detection.p_value)
    assert detection.signs == {}
    assert not detection.isolation.mask.any()
    assert not detection.isolation.scores.any()
    assert detection.trusted.all()
    assert not any(probe.asked.values())


def test_a_planted_class_is_poisoned(planted):
    X, labels, poison, network, probe = planted
    detection = search(X, labels, network, probe)
    assert detection.p_value < 1e-3
    np.testing.assert_array_equal(detection.isolation.mask, poison)
    assert not detection.trusted[poison].any()
    assert detection.trusted[labels != 2].all()
    assert detection.trusted[labels == 2].sum() >= N_ROWS * 0.5
    assert set(detection.signs) == {"transplant", "diversity", "low_margin"}
    assert detection.signs["transplant"][2] > 0.9
    assert np.nanmax(np.delete(detection.signs["transplant"], 2)) < 0.1
    # The one class that was held out.
    assert np.flatnonzero(np.isfinite(detection.signs["diversity"])).tolist() == [2]
    assert detection.signs["diversity"][2] > 0.8
    (trained_on,) = probe.asked["classes"]
    assert not trained_on[labels == 2].any()
    # Some rows of the classes it knows are kept from it, to compare with.
    assert (~trained_on[labels != 2]).sum() == 50
    # Then one that knows the class by its poison alone.
    (trained_on,) = probe.asked["rows"]
    np.testing.assert_array_equal(trained_on, (labels != 2) | poison)
    assert detection.is_complete


def test_scores_are_shares_and_the_flagged_are_the_highest(found):
    isolation = found.isolation
    assert isolation.scores.dtype == np.float64
    assert isolation.scores.min() >= 0 and isolation.scores.max() <= 1
    assert isolation.scores[isolation.mask].min() > isolation.scores[~isolation.mask].max()


def test_nothing_is_found_in_clean_data(planted):
    X, labels, poison, _, probe = planted
    X, labels = X[~poison], labels[~poison]
    detection = search(X, labels, linear_network(class_weights()), probe)
    assert not detection.isolation.mask.any()
    assert detection.trusted.all()
    assert not detection.complementary.any()
    assert detection.p_value > 0.5
    # No transplant spoke against any, so the likeliest were held out, and three left to be
    # known; then, as no class has the rows for it, no low-margin rows.
    unknown = np.isfinite(detection.signs["diversity"])
    assert unknown.sum() == 3
    (trained_on,) = probe.asked["classes"]
    assert not trained_on[unknown[labels]].any()
    assert (~trained_on[~unknown[labels]]).sum() == 50
    assert np.isnan(detection.signs["low_margin"]).all()
    assert probe.asked["rows"] == []
    assert probe.told == [(0.5, None)]


def test_the_search_is_the_same_for_a_seed(planted, found):
    X, labels, _, network, probe = planted
    one, other = found, search(X, labels, network, probe)
    np.testing.assert_array_equal(one.isolation.scores, other.isolation.scores)
    np.testing.assert_array_equal(one.trusted, other.trusted)
    assert one.p_value == other.p_value


@pytest.mark.parametrize("factor", [1.01, 0.99], ids=["a little above", "a little below"])
def test_the_false_alarm_rate_is_the_level_of_the_p_value(planted, found, factor):
    X, labels, poison, network, probe = planted
    p_value = found.p_value
    detection = search(X, labels, network, probe, false_alarm_rate=factor * p_value)
    is_found = factor > 1
    assert detection.p_value == p_value
    np.testing.assert_array_equal(detection.isolation.mask, poison & is_found)
    assert detection.trusted[poison].all() != is_found
    # A class that came near significance stands out even so.
    scores = detection.isolation.scores
    assert scores[poison].min() > scores[labels != 2].max()


# ------------------------------------------------------------------------- what the probe says


def test_a_trigger_that_no_mean_shows_is_found_by_the_probe(planted):
    X, labels, poison, _, probe = planted
    # Its features tell the poison, but it gives no row the class.
    weight = class_weights()
    weight[2] = 0
    bias = np.where(np.arange(N_CLASSES) == 2, -9.0, 0.0)
    detection = search(X, labels, linear_network(weight, bias.astype(np.float32)), probe)
    assert detection.signs["transplant"][2] == 0
    assert detection.p_value < 0.05
    np.testing.assert_array_equal(detection.isolation.mask, poison)
    assert len(probe.asked["classes"]) == 1


def test_a_probe_that_knows_no_class_says_nothing(planted):
    X, labels, _, network, probe = planted
    probe.networks["classes"] = [linear_network(np.zeros((N_CLASSES, N_COLUMNS)))]
    detection = search(X, labels, network, probe)
    assert len(probe.asked["classes"]) == 1
    assert np.isnan(detection.signs["diversity"]).all()
    assert flagged_classes(detection, labels) == [2]  # by the transplant


def takes_trigger_for_3(strength, class_2=0.0):
    """A network that takes the trigger for class 3, and class 2 as well."""
    weight = confused(class_weights())
    weight[3, TRIGGER] = strength
    weight[3, 2] += class_2
    return linear_network(weight)


def test_two_parts_that_look_like_no_other_class_are_natural(planted):
    """Light and dark images of one thing: a transplant alone would speak against the class."""
    X, labels, _, network, probe = planted
    probe.networks["classes"] = [takes_trigger_for_3(9.0, class_2=9.0)]
    detection = search(X, labels, network, probe)
    assert detection.signs["transplant"][2] > 0.9
    assert detection.signs["diversity"][2] < 0.2
    assert not detection.isolation.mask.any()
    assert detection.trusted.all()
    assert detection.p_value > 0.5


def test_poison_that_was_recognised_as_other_classes_is_complementary(planted, found):
    np.testing.assert_array_equal(found.complementary, planted[2])


#: Of this strength the trigger makes the probe see class 3 in some of the poison.
_HALF_HIDDEN = 1.4


def test_poison_that_looks_like_its_class_is_not_complementary(planted):
    X, labels, poison, network, probe = planted
    probe.networks["classes"] = [takes_trigger_for_3(_HALF_HIDDEN)]
    detection = search(X, labels, network, probe)
    assert 0.4 < detection.signs["diversity"][2] < 0.73
    np.testing.assert_array_equal(detection.isolation.mask, poison)
    assert not detection.complementary.any()


@pytest.mark.parametrize("sign", [1, -1], ids=["lower-losses", "higher-losses"])
def test_where_no_network_can_tell_the_smaller_part_is_the_poison(sign):
    X, labels, poison = plant({1: 12})
    probe = FakeProbe(linear_network(np.zeros((N_CLASSES, N_COLUMNS))), only_trigger())
    network = linear_network(class_weights(6.0))
    detection = search(X, labels, network, probe, scores=sign * poison.astype(float))
    np.testing.assert_array_equal(detection.isolation.mask, poison)


# ------------------------------------------------------- a trigger that nobody has learned


@pytest.fixture
def unlearned():
    """The split is by noise, and no transplant speaks: the network sees neither class nor trigger.

    An early one knows the classes, and the probe all but one.
    """
    X, labels, poison = plant(OTHERS, n_rows=100)
    network = linear_network(np.zeros((N_CLASSES, len(NOISE))), sees=NOISE)
    early = linear_network(class_weights())
    return (
        X,
        labels,
        poison,
        network,
        FakeProbe(linear_network(confused(class_weights())), early=early),
    )


def test_poison_whose_trigger_was_not_learned_is_found_among_the_low_margins(unlearned):
    X, labels, poison, network, probe = unlearned
    detection = search(X, labels, network, probe)
    assert flagged_classes(detection, labels) == [2]
    assert detection.p_value < 0.05
    assert detection.signs["low_margin"][2] > 0.5
    # First of the halves, in vain; then the early network; then of the low-margin rows.
    assert probe.told == [(0.5, None), (0.25, None), (0.5, None)]
    assert not probe.asked["classes"][1][labels == 2].any()
    # Fifteen rows of 115 are poison: one tenth of eleven, and most of a second.
    flagged = detection.isolation.mask
    assert poison[flagged].sum() >= 11
    assert flagged.sum() in (11, 22)
    np.testing.assert_array_equal(detection.complementary, flagged)
    doubtful = ~detection.trusted & ~flagged
    assert doubtful.sum() == 11
    assert not detection.trusted[poison].any()
    # Of flagged rows that may be natural no network is to learn the class.
    assert probe.asked["rows"] == []


def test_low_margin_rows_that_look_like_the_rest_of_their_class_are_natural(unlearned):
    X, labels, poison, network, probe = unlearned
    X, labels = X[~poison], labels[~poison]
    detection = search(X, labels, network, probe)
    asked = np.isfinite(detection.signs["low_margin"])
    assert 1 <= asked.sum() <= 2
    assert np.nanmax(detection.signs["low_margin"]) < 0.2
    assert not detection.isolation.mask.any()
    assert detection.trusted.all()


# --------------------------------------------------------------------- what is completed


def test_poison_that_the_features_do_not_tell_is_completed():
    X, labels, poison = plant(OTHERS)
    # Three rows bear the trigger in a way that the first network does not see.
    unseen = np.flatnonzero(poison)[:3]
    X[unseen, TRIGGER] -= 5
    X[unseen, NOISE[0]] += 5
    natural = (labels == 2) & ~poison
    weight = np.zeros((N_CLASSES, 2))
    weight[2, 0] = 6.0
    bias = np.where(np.arange(N_CLASSES) == 0, 9.0, 0.0).astype(np.float32)
    network = linear_network(weight, bias, sees=[TRIGGER, NOISE[1]])
    both = class_weights(6.0)
    both[2, 2] = -2
    both[2, NOISE[0]] = 6.0
    probe = FakeProbe(linear_network(confused(class_weights())), linear_network(both))
    detection = search(X, labels, network, probe)
    np.testing.assert_array_equal(detection.isolation.mask, poison)
    np.testing.assert_array_equal(detection.complementary, poison)
    assert not detection.trusted[poison].any()
    assert detection.trusted[natural].mean() > 0.5
    # The network that completes it has seen neither the three nor natural rows; then, in a
    # second round that finds no more, the three as well.
    first, second = probe.asked["rows"]
    assert not first[unseen].any()
    assert second[unseen].all()
    assert not second[natural].any()
    assert probe.told[1:] == [(0.3, None), (0.1, probe.networks["rows"][0])]


def test_a_network_that_has_learned_the_class_completes_nothing(planted):
    X, labels, poison, network, probe = planted
    probe.networks["rows"] = [network]
    detection = search(X, labels, network, probe)
    np.testing.assert_array_equal(detection.isolation.mask, poison)
    assert detection.trusted[(labels == 2) & ~poison].mean() > 0.5


# ------------------------------------------------------------------ what cannot be searched


def test_classes_too_small_to_split_are_trusted(planted):
    X, labels, _, network, probe = planted
    few = np.concatenate([np.flatnonzero(labels == c)[:10] for c in range(N_CLASSES)])
    assert_untested(search(X[few], labels[few], network, probe), probe)


def test_classes_too_small_to_split_are_trusted_beside_others(planted):
    X, labels, poison, network, probe = planted
    few = np.flatnonzero(labels == 5)[:10]
    rows = np.concatenate([np.flatnonzero(labels != 5), few])
    detection = search(X[rows], labels[rows], network, probe)
    assert np.isnan(detection.signs["transplant"][5])
    np.testing.assert_array_equal(detection.isolation.mask, poison[rows])
    assert detection.trusted[-10:].all()
    assert not detection.isolation.scores[-10:].any()


def test_rows_that_are_all_alike_are_not_tested(planted):
    X, labels, _, network, probe = planted
    assert_untested(search(np.full_like(X, 0.5), labels, network, probe), probe)


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
