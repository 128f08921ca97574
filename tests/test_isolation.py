"""Isolation that sizes itself: its parts by hand, the search, and what a memory keeps of it."""

from __future__ import annotations

import itertools
import shutil
from importlib import resources
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from scipy.special import expit, logit, softmax
from scipy.stats import norm
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.model_selection import GridSearchCV

from antibackdoor import ABLClassifier, CBDClassifier, make_poisoned
from antibackdoor.backbones import build_network
from antibackdoor.defenses import _searching
from antibackdoor.defenses.isolation import (
    Isolation,
    _completion,
    _misfits,
    _search,
    find_poison,
    flag_nothing,
    not_searched,
)
from antibackdoor.defenses.isolation._misfits import Order, order_by_fit
from antibackdoor.defenses.isolation._parts import Parts, split_classes
from antibackdoor.defenses.isolation._suspicion import Suspicion
from antibackdoor.defenses.isolation._testimony import assurance, information
from antibackdoor.defenses.isolation._transplant import transplant
from antibackdoor.metrics import isolation_precision, isolation_recall
from antibackdoor.training import Samples, compute_logits
from antibackdoor.utils import resolve_layout

CPU = torch.device("cpu")


def as_samples(X, *, resident=True):
    layout = None if X.ndim == 2 else resolve_layout(X.shape[1:], None, "auto")
    dtype = torch.float64 if X.dtype == np.float64 and layout is None else torch.float32
    return Samples(X, layout, CPU, dtype, resident=resident)


def linear_network(weight, bias, input_shape):
    """A network whose features are the inputs, in the order of channels first."""
    weight = torch.as_tensor(np.asarray(weight, dtype=np.float32))
    backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(*weight.T.shape))
    zeros = torch.zeros(input_shape[0])
    network = build_network(
        backbone, input_shape, len(weight), mean=zeros, scale=torch.ones(input_shape[0])
    )
    with torch.no_grad():
        network.head.weight.copy_(weight)
        network.head.bias.copy_(torch.as_tensor(bias, dtype=torch.float32))
    return network


# --------------------------------------------------------------------- a class in two parts


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


@pytest.mark.parametrize("n_rows", [20, 25, 40])
@pytest.mark.parametrize("n_columns", [1, 2, 200])
def test_small_classes_and_wide_features(n_rows, n_columns):
    rng = np.random.default_rng(n_rows)
    features, labels = rng.normal(size=(2 * n_rows, n_columns)), np.repeat([0, 1], n_rows)
    for parts in split_classes(features, rng.normal(size=2 * n_rows), labels, 0):
        assert min(len(parts.first), len(parts.second)) >= 5
        assert np.isfinite(parts.probabilities).all()


# ---------------------------------------------------------------------- rows with a shift


@pytest.mark.parametrize("resident", [True, False])
def test_shifted_pixels_are_rounded_and_stay_pixels(resident):
    X = np.arange(0, 240, 15, dtype=np.uint8).reshape(4, 2, 2)
    samples = as_samples(X, resident=resident)
    difference = torch.tensor([[30.6, -20.0], [0.4, 100.0]], dtype=torch.float64)[..., None]
    shifted = samples.shifted(torch.tensor([3, 0]), difference)
    # Rows 180, 195, 210, 225 and 0, 15, 30, 45.
    wanted = [[[211, 175], [210, 255]], [[31, 0], [30, 145]]]
    assert len(shifted) == 2
    assert shifted.stored(torch.arange(2))[..., 0].tolist() == wanted
    assert shifted.stored(torch.arange(2)).dtype == torch.uint8
    inputs = torch.cat(list(shifted.chunks()))
    assert inputs.shape == (2, 1, 2, 2)
    torch.testing.assert_close(inputs[:, 0], torch.tensor(wanted) / 255)
    # The rows themselves stay as they are.
    assert samples.stored(torch.arange(4))[..., 0].tolist() == X.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shifted_floats_are_not_clipped(dtype):
    X = np.array([[0.25, 0.5], [1.0, -1.0]], dtype=dtype)
    shifted = as_samples(X).shifted(torch.tensor([1, 0]), torch.tensor([9.125, -4.0]))
    stored = shifted.stored(torch.arange(2))
    assert stored.tolist() == [[10.125, -5.0], [9.375, -3.5]]
    assert stored.dtype == torch.from_numpy(X).dtype


# ----------------------------------------------------------------------------- transplant


def trigger_table(kind):
    """Ten rows of class 0, the first five with a trigger, and thirty of classes 1 and 2.

    The network gives class 0 where the last pixel is above a half, else the label.
    """
    labels = np.repeat([0, 1, 2], [10, 15, 15])
    X = np.zeros((40, 4))
    X[np.arange(40), labels] = 0.4
    X[:5, 3] = 1.0
    weight, bias = np.eye(3, 4), np.zeros(3)
    weight[0, 3] = 2.0
    if kind == "table":
        return as_samples(X.astype(np.float32)), linear_network(weight, bias, (4,)), labels
    images = X.reshape(40, 2, 2)
    if kind == "uint8":
        images = np.round(images * 255).astype(np.uint8)
    return as_samples(images), linear_network(weight, bias, (1, 2, 2)), labels


@pytest.mark.parametrize("kind", ["table", "float", "uint8"])
def test_the_difference_of_the_parts_is_the_trigger(kind):
    samples, network, labels = trigger_table(kind)
    first, second = np.arange(5), np.arange(5, 10)
    assert transplant(network, samples, labels, first, second, 0) == 1.0
    # Either part may be the one that bears it.
    assert transplant(network, samples, labels, second, first, 0) == 1.0


@pytest.mark.parametrize("kind", ["table", "float", "uint8"])
def test_equal_parts_convert_nothing(kind):
    samples, network, labels = trigger_table(kind)
    marked, unmarked = np.arange(5), np.arange(5, 10)
    assert transplant(network, samples, labels, marked[:2], marked[2:], 0) == 0.0
    assert transplant(network, samples, labels, unmarked[:2], unmarked[2:], 0) == 0.0


def test_rows_that_are_taken_for_the_class_anyway_do_not_count():
    samples, network, labels = trigger_table("table")
    with torch.no_grad():
        network.head.bias[0] = 9.0  # the network knows no other class
    assert transplant(network, samples, labels, np.arange(5), np.arange(5, 10), 0) == 0.0


def test_half_of_the_other_rows_are_converted():
    samples, network, labels = trigger_table("table")
    with torch.no_grad():
        network.head.weight[1, 1] = 9.0  # class 1: 3.6 against 2
    first, second = np.arange(5), np.arange(5, 10)
    assert transplant(network, samples, labels, first, second, 0) == 0.5


# ------------------------------------------------------------------------------ testimony

FIVE = np.array([False, True, True, True, True])


def test_information_of_rows_that_are_each_recognised_is_the_entropy_of_their_classes():
    sure = 1000 * np.eye(5)[[1, 1, 2, 2, 3, 3, 4, 4]]
    assert information(sure, FIVE) == pytest.approx(np.log(4))
    sure = 1000 * np.eye(5)[[1, 1, 1, 2]]
    wanted = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert information(sure, FIVE) == pytest.approx(wanted)


@pytest.mark.parametrize("said", [[0, 0, 9, 0, 0], [0, 1, 1, 1, 1], [0, 3, 1, 0, 2]])
def test_rows_that_are_all_told_the_same_give_no_information(said):
    logits = np.tile(np.array(said, dtype=float), (7, 1))
    assert information(logits, FIVE) == pytest.approx(0, abs=1e-9)


def test_information_by_hand():
    # Two rows, which are given (3/4, 1/4) and (1/4, 3/4): log 2 less the entropy of either.
    known = np.array([False, True, True, False])
    odds = np.log(3)
    logits = np.array([[9.0, odds, 0.0, -5.0], [0.0, 0.0, odds, 7.0]])
    wanted = np.log(2) + 0.75 * np.log(0.75) + 0.25 * np.log(0.25)
    assert information(logits, known) == pytest.approx(wanted)
    # What it says of classes it does not know does not count.
    logits[:, [0, 3]] = logits[:, [3, 0]] * 3
    assert information(logits, known) == pytest.approx(wanted)


def test_assurance_by_hand():
    logits = np.array([[99.0, 3.0, 0.0, 0.0, 0.0], [99.0, 1.0, 1.0, 1.0, 1.0]])
    np.testing.assert_allclose(assurance(logits, FIVE), [3 - np.log(3), -np.log(3)])
    # The odds stay the same when all logits rise.
    np.testing.assert_allclose(assurance(logits + 50, FIVE), assurance(logits, FIVE))


# ----------------------------------------------------------------------------- the search

N_CLASSES, N_ROWS = 6, 60
TRIGGER = N_CLASSES  # the column after those of the classes


class Examiner:
    """Hands out a network that lacks classes and ones that lack rows, and notes the rows.

    Of those that lack rows the next one every time, and at last the last one over and over.
    The novice, that lacks nothing, is the one that lacks classes.
    """

    def __init__(self, without_classes, *without_rows):
        self.labels = None  # those of the search
        self.networks = {
            "nothing": [without_classes],
            "classes": [without_classes],
            "rows": list(without_rows),
        }
        self.asked = {lacks: [] for lacks in self.networks}
        self.told = []

    def __call__(self, trained_on, share, network=None):
        lacks = "rows" if set(self.labels[trained_on]) == set(self.labels) else "classes"
        if trained_on.all():
            lacks = "nothing"
        self.asked[lacks].append(trained_on)
        self.told.append((share, network))
        return self.networks[lacks][min(len(self.asked[lacks]), len(self.networks[lacks])) - 1]


def class_weights(trigger=0.0):
    """Logits that read the columns of the classes and, for class 2, that of the trigger."""
    weight = np.zeros((N_CLASSES, N_CLASSES + 3))
    weight[:, :N_CLASSES] = 2 * np.eye(N_CLASSES)
    weight[2, TRIGGER] = trigger
    return weight


def confused(weight):
    """A network that takes a class it does not know for one of two, of which it knows one."""
    weight = weight.copy()
    for n_further, strength in ((1, 2.0), (3, 1.5)):
        weight[:, :N_CLASSES] += strength * np.roll(np.eye(N_CLASSES), n_further, axis=0)
    return weight


def plant(per_class):
    """Six classes in the columns of a table; some rows of the others bear class 2's trigger."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(N_CLASSES), N_ROWS)
    X = rng.normal(scale=0.3, size=(len(labels), N_CLASSES + 3)).astype(np.float32)
    X[np.arange(len(labels)), labels] += 3
    poison = np.zeros(len(labels), dtype=bool)
    for source, n_rows in per_class.items():
        poison[np.flatnonzero(labels == source)[:n_rows]] = True
    X[poison, TRIGGER] += 5
    labels[poison] = 2
    return X, labels, poison


@pytest.fixture
def planted():
    """Poison in class 2, a network that has learned its trigger, and an examiner.

    Its new network has not learned the trigger; to the other the class is nothing else.
    """
    X, labels, poison = plant(dict.fromkeys((0, 1, 3, 4, 5), 3))
    bias = np.zeros(N_CLASSES)
    network = linear_network(class_weights(6.0), bias, X.shape[1:])
    new = linear_network(confused(class_weights()), bias, X.shape[1:])
    only_trigger = class_weights(6.0)
    only_trigger[2, 2] = -2
    further = linear_network(only_trigger, bias, X.shape[1:])
    return X, labels, poison, network, Examiner(new, further)


def search(X, labels, network, examiner, **changes):
    scores = np.random.default_rng(1).normal(size=len(X))
    examiner.labels = labels
    settings = {"examiner": examiner, "false_alarm_rate": 0.05, "seed": 0}
    return find_poison(network, as_samples(X), labels, scores, **{**settings, **changes})


def parts_of_diversity(diversity):
    """An information of 1 in the rows that are compared with, then of so much in all parts."""
    given = itertools.chain([1.0], itertools.repeat(diversity))
    return lambda logits, known: next(given)


def test_a_planted_class_is_convicted(planted):
    X, labels, poison, network, examiner = planted
    finding = search(X, labels, network, examiner)
    assert finding.classes.tolist() == [2]
    assert finding.p_value < 1e-3
    np.testing.assert_array_equal(finding.isolation.mask, poison)
    assert not finding.trusted[poison].any()
    assert finding.trusted[labels != 2].all()
    assert finding.trusted[labels == 2].sum() >= N_ROWS * 0.5
    assert finding.signs["transplant"][2] > 0.9
    assert np.nanmax(np.delete(finding.signs["transplant"], 2)) < 0.1
    # The one class that was asked about; a network without it has been asked.
    assert np.flatnonzero(np.isfinite(finding.signs["diversity"])).tolist() == [2]
    assert finding.signs["diversity"][2] > 0.8
    (trained_on,) = examiner.asked["classes"]
    assert not trained_on[labels == 2].any()
    # Some rows of the classes it knows are kept from it, to compare with.
    assert (~trained_on[labels != 2]).sum() == 50
    # Then one that knows the class by its poison alone.
    (trained_on,) = examiner.asked["rows"]
    np.testing.assert_array_equal(trained_on, (labels != 2) | poison)


def test_scores_are_shares_and_the_flagged_are_the_highest(planted):
    X, labels, _, network, examiner = planted
    isolation = search(X, labels, network, examiner).isolation
    assert isolation.scores.dtype == np.float64
    assert isolation.scores.min() >= 0 and isolation.scores.max() <= 1
    assert isolation.scores[isolation.mask].min() > isolation.scores[~isolation.mask].max()


def test_nothing_is_found_in_clean_data(planted):
    X, labels, poison, _, examiner = planted
    X, labels = X[~poison], labels[~poison]
    network = linear_network(class_weights(), np.zeros(N_CLASSES), X.shape[1:])
    finding = search(X, labels, network, examiner)
    assert len(finding.classes) == 0
    assert not finding.isolation.mask.any()
    assert finding.trusted.all()
    assert finding.p_value > 0.5
    # No transplant spoke against any, so the likeliest were examined, and three left to be known;
    # then, as no class has the rows for it, no misfits.
    unknown = np.isfinite(finding.signs["diversity"])
    assert unknown.sum() == 3
    (trained_on,) = examiner.asked["classes"]
    assert not trained_on[unknown[labels]].any()
    assert (~trained_on[~unknown[labels]]).sum() == 50
    assert np.isnan(finding.signs["misfits"]).all()
    assert examiner.asked["rows"] == []
    assert examiner.told == [(0.5, None)]


def test_rows_are_ordered_by_the_odds_of_their_label():
    """A class of 108 rows: from the one that fits worst on, every other is taken for 1 or 2."""
    given = np.linspace(-4, 4, 108)
    shuffled = np.random.default_rng(0).permutation(108)
    rest = np.tile([[9.0, -9.0], [-9.0, 9.0]], (54, 1))
    X = np.vstack([np.column_stack([given + 9, rest])[shuffled], np.eye(3)[[1] * 99]])
    labels = np.append(np.zeros(108, dtype=int), np.ones(99, dtype=int))
    network = linear_network(np.eye(3), np.zeros(3), X.shape[1:])
    orders = order_by_fit(network, as_samples(X.astype(np.float32)), labels)
    assert list(orders) == [0]  # the tenths of 99 rows are too few to ask about
    order = orders[0]
    np.testing.assert_array_equal(shuffled[order.rows], np.arange(108))
    tenths = [shuffled[rows].tolist() for rows in order.tenths]
    assert tenths == [list(range(start, start + 10)) for start in (0, 10, 20, 30, 40)]
    np.testing.assert_array_equal(shuffled[order.better_half], np.arange(54, 108))
    # Of the first ten five are surely a 1 and five a 2.
    assert order.oddity == pytest.approx(np.log(2))


@pytest.fixture
def unlearned(planted, monkeypatch):
    """The trigger has been learned by nobody: the split is by chance, no transplant speaks."""
    X, labels, poison, _, examiner = planted

    def halves(label):
        rows = np.flatnonzero(labels == label)
        return Parts(label, rows, 1.0 * (np.arange(len(rows)) % 2), overlap=0.6, contrast=0.5)

    monkeypatch.setattr(_search, "split_classes", lambda *args: list(map(halves, range(N_CLASSES))))
    monkeypatch.setattr(_search, "transplant", lambda *args: 0.0)
    monkeypatch.setattr(_misfits, "_SMALLEST_TENTH", 5)  # there are 75 rows and fewer in a class
    network = linear_network(class_weights(), np.zeros(N_CLASSES), X.shape[1:])
    examiner.networks["nothing"] = [network]
    return X, labels, poison, network, examiner


def test_poison_whose_trigger_was_not_learned_is_found_among_the_misfits(unlearned):
    X, labels, poison, network, examiner = unlearned
    finding = search(X, labels, network, examiner)
    assert finding.classes.tolist() == [2]
    assert finding.p_value < 0.05
    assert finding.signs["misfits"][2] > 0.5
    assert np.isfinite(finding.signs["misfits"]).sum() == 2
    # First about the halves, in vain; then a novice; then about misfits.
    assert examiner.told == [(0.5, None), (0.25, None), (0.5, None)]
    assert not examiner.asked["classes"][1][labels == 2].any()
    # Fifteen rows of 75 are poison: two tenths of seven, and one in a third, which is left open.
    flagged = finding.isolation.mask
    assert flagged.sum() == 14
    assert poison[flagged].all()
    np.testing.assert_array_equal(finding.denied, flagged)
    doubtful = ~finding.trusted & ~flagged
    assert doubtful.sum() == 7
    assert doubtful[poison & ~flagged].all()
    # Of flagged rows that may be natural no network is to learn the class.
    assert examiner.asked["rows"] == []


def test_misfits_that_look_like_the_rest_of_their_class_are_natural(unlearned, monkeypatch):
    X, labels, _, network, examiner = unlearned
    monkeypatch.setattr(_search, "information", parts_of_diversity(0.6))
    finding = search(X, labels, network, examiner)
    # Of two classes each tenth has as much as the better half.
    assert np.nanmax(finding.signs["misfits"]) == 0
    assert np.isfinite(finding.signs["misfits"]).sum() == 2
    assert len(finding.classes) == 0
    assert finding.trusted.all()


def suspicion_of(diversities, excesses, level=0.05):
    rows = np.arange(20)
    parts = Parts(0, rows, 1.0 * (rows >= 10), overlap=0.1, contrast=0.5)
    return Suspicion(parts, 0.0, level, Order(rows, 0.0), diversities, excesses)


@pytest.mark.parametrize(
    ("diversities", "excesses", "flagged", "doubtful"),
    [
        # 0.6 is four deviations above 0.2, and half way to it is 0.4.
        ((0.5, 0.5), (0.6, 0.41, 0.39, 0.41, 0.2), range(4), range(4, 6)),
        # Doubtful is one tenth more, however many are flagged.
        ((0.5, 0.5), (0.6, 0.5, 0.5, 0.5, 0.5), range(10), range(10, 12)),
        # A part that convicts by itself goes before, one that does not does not.
        ((0.5, 0.9), (0.6, 0.2, 0.2, 0.2, 0.2), range(10), ()),
        ((0.9, 0.5), (0.6, 0.2, 0.2, 0.2, 0.2), range(10, 20), ()),
        ((0.5, 0.73), (0.6, 0.2, 0.2, 0.2, 0.2), range(2), range(2, 4)),
    ],
    ids=["two tenths", "half", "second part", "first part", "a part near a verdict"],
)
def test_misfits_or_a_part_are_suspect(diversities, excesses, flagged, doubtful):
    suspicion = suspicion_of(diversities, excesses)
    likely, open_ = suspicion.probabilities > 0.5, suspicion.probabilities > 0.1
    assert np.flatnonzero(likely).tolist() == list(flagged)
    assert np.flatnonzero(open_ & ~likely).tolist() == list(doubtful)
    assert suspicion.is_convicted and suspicion.is_foreign


def test_misfits_have_a_fifth_of_the_false_alarms():
    tail = norm.sf(3)
    # Three deviations from the mean of natural misfits, and of natural parts.
    assert suspicion_of((0.5, 0.5), (0.5,) * 5).p_value == pytest.approx(tail / 0.2)
    assert suspicion_of((0.5, 0.86), (0.2,) * 5).p_value == pytest.approx(4 * tail / 0.8)
    assert suspicion_of((0.5, 0.86), None).p_value == pytest.approx(4 * tail / 0.8)


@pytest.fixture
def differing():
    """Five classes: of splits more and less clear, of transplants large and small."""
    overlaps = {3: 0.01, 4: 0.02, 5: 0.3, 6: 0.2, 7: 0.4}
    transplants = {3: 0.05, 4: 0.0, 5: 0.1, 6: 0.01, 7: 0.0}
    return [
        Suspicion(
            Parts(label, np.arange(2), np.array([0.0, 1.0]), overlap, contrast=0.5),
            transplants[label],
            level=0.005,
        )
        for label, overlap in overlaps.items()
    ]


def test_the_clearest_splits_and_the_largest_transplants_are_examined(differing):
    assert [suspicion.label for suspicion in _search._to_examine(differing)] == [3, 5, 4]
    differing[3].transplant = 0.5  # this one speaks, so that nobody else is asked about
    assert [suspicion.label for suspicion in _search._to_examine(differing)] == [6]


def test_the_oddest_of_the_classes_are_asked_about(differing):
    oddities = {3: 0.1, 4: 0.0, 5: 0.3, 6: 0.2, 7: 0.15, 9: 0.9}
    orders = {label: Order(np.arange(2), oddity) for label, oddity in oddities.items()}
    oddest = _search._oddest(differing, orders)
    assert [suspicion.label for suspicion in oddest] == [5, 6]
    assert all(suspicion.order is orders[suspicion.label] for suspicion in oddest)


def test_an_examiner_that_knows_no_class_says_nothing(planted):
    X, labels, _, network, examiner = planted
    weight = np.zeros((N_CLASSES, N_CLASSES + 3))
    examiner.networks["classes"] = [linear_network(weight, np.zeros(N_CLASSES), X.shape[1:])]
    finding = search(X, labels, network, examiner)
    assert len(examiner.asked["classes"]) == 1
    assert np.isnan(finding.signs["diversity"]).all()
    assert finding.classes.tolist() == [2]  # by the transplant


def test_of_few_known_rows_half_are_trained_on(planted):
    X, labels, poison, network, examiner = planted
    sizes = {0: 22, 1: 22, 3: 22, 4: 5, 5: 5}
    others = [np.flatnonzero(labels == label)[:size] for label, size in sizes.items()]
    rows = np.sort(np.concatenate([np.flatnonzero(labels == 2), *others]))
    search(X[rows], labels[rows], network, examiner)
    (trained_on,) = examiner.asked["classes"]
    known = labels[rows] != 2
    assert known.sum() < 2 * 50
    assert trained_on.sum() == known.sum() - known.sum() // 2


@pytest.mark.parametrize(
    ("n_samples", "batch"), [(100, 8), (400, 10), (1280, 32), (5000, 32), (8000, 50), (50_000, 128)]
)
def test_an_epoch_of_the_search_has_forty_to_160_steps(n_samples, batch):
    samples = type("Rows", (), {"layout": "images", "__len__": lambda _: n_samples})
    run = SimpleNamespace(samples=samples())
    assert ABLClassifier()._search_batch(run) == batch
    assert ABLClassifier(batch_size=8)._search_batch(run) == 8
    assert ABLClassifier(isolation_ratio=0.01)._search_batch(run) == 128


def test_the_search_is_the_same_for_a_seed(planted):
    X, labels, _, network, examiner = planted
    one, other = (search(X, labels, network, examiner) for _ in range(2))
    np.testing.assert_array_equal(one.isolation.scores, other.isolation.scores)
    np.testing.assert_array_equal(one.trusted, other.trusted)
    assert one.p_value == other.p_value


def test_a_trigger_that_no_mean_shows_is_found_by_the_examiner(planted, monkeypatch):
    monkeypatch.setattr(_search, "transplant", lambda *args: 0.0)
    X, labels, poison, network, examiner = planted
    finding = search(X, labels, network, examiner)
    assert finding.classes.tolist() == [2]
    assert finding.p_value < 0.05
    np.testing.assert_array_equal(finding.isolation.mask, poison)
    assert len(examiner.asked["classes"]) == 1


@pytest.mark.parametrize("rate", [0.5, 0.1, 0.05, 1e-3])
def test_the_rate_of_false_alarms_is_the_level_of_the_test(planted, monkeypatch, rate):
    # Of a mean of 0.06, twice the probability of a rise of 0.3, in six classes; a fifth of the
    # alarms is the misfits'.
    wanted = 6 * 2 * np.exp(-0.3 / 0.06) / 0.8

    def speaks_against_two(network, samples, labels, first, second, seed):
        return 0.3 if labels[first[0]] == 2 else 0.0

    monkeypatch.setattr(_search, "transplant", speaks_against_two)
    monkeypatch.setattr(_search, "information", parts_of_diversity(0.5))  # says nothing
    X, labels, poison, network, examiner = planted
    finding = search(X, labels, network, examiner, false_alarm_rate=rate)
    assert finding.p_value == pytest.approx(wanted)
    assert finding.classes.tolist() == ([2] if wanted < rate else [])
    np.testing.assert_array_equal(finding.isolation.mask, poison & (wanted < rate))
    assert finding.trusted[poison].any() == (wanted >= rate)
    # A class that came near a verdict stands out even so.
    assert finding.isolation.scores[poison].min() > finding.isolation.scores[labels != 2].max()
    assert len(examiner.asked["classes"]) == 1


def test_two_parts_that_look_like_no_other_class_are_natural(planted, monkeypatch):
    """Light and dark images of one thing: a transplant alone would convict the class."""
    X, labels, _, network, examiner = planted
    monkeypatch.setattr(_search, "information", parts_of_diversity(0.2))
    finding = search(X, labels, network, examiner)
    assert finding.signs["transplant"][2] > 0.9
    assert len(finding.classes) == 0
    assert finding.trusted.all()
    assert finding.p_value > 0.5


def test_poison_that_was_recognised_as_other_classes_is_denied(planted):
    X, labels, poison, network, examiner = planted
    np.testing.assert_array_equal(search(X, labels, network, examiner).denied, poison)


def test_poison_that_looks_like_its_class_is_not_denied(planted, monkeypatch):
    X, labels, poison, network, examiner = planted
    monkeypatch.setattr(_search, "information", parts_of_diversity(0.6))
    finding = search(X, labels, network, examiner)
    np.testing.assert_array_equal(finding.isolation.mask, poison)
    assert not finding.denied.any()


def test_each_class_is_denied_by_its_own_testimony(planted, monkeypatch):
    X, labels, _, network, examiner = planted
    told = {1: (0.9, 0.5), 3: (0.6, 0.5)}

    def few_and_many(label):
        rows = np.flatnonzero(labels == label)
        return Parts(label, rows, 1.0 * (np.arange(len(rows)) < 5), overlap=0.1, contrast=0.9)

    def examine(suspicions, *rest):
        for suspicion in suspicions:
            suspicion.diversities = told[suspicion.label]

    monkeypatch.setattr(_search, "split_classes", lambda *args: [few_and_many(c) for c in told])
    monkeypatch.setattr(_search, "transplant", lambda *args: 0.9)
    monkeypatch.setattr(_search, "_examine_parts", examine)
    monkeypatch.setattr(_search, "_complete", lambda finding, *rest: finding)
    finding = search(X, labels, network, examiner)
    assert finding.isolation.mask.sum() == 10
    assert finding.classes.tolist() == [1, 3]
    np.testing.assert_array_equal(finding.denied, finding.isolation.mask & (labels == 1))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_with_few_classes_nothing_is_tested(planted, n_classes):
    X, labels, poison, _, examiner = planted
    rows = (labels < n_classes) & ~poison
    network = linear_network(class_weights()[:n_classes], np.zeros(n_classes), X.shape[1:])
    finding = search(X[rows], labels[rows], network, examiner)
    assert not any(examiner.asked.values())
    assert np.isnan(finding.p_value)
    assert finding.signs == {}
    assert len(finding.classes) == 0
    assert not finding.isolation.mask.any()
    assert finding.trusted.all()


@pytest.mark.parametrize("sign", [1, -1], ids=["lower-losses", "higher-losses"])
def test_where_no_network_can_tell_the_smaller_part_is_the_poison(sign):
    X, labels, poison = plant({1: 12})
    network = linear_network(class_weights(6.0), np.zeros(N_CLASSES), X.shape[1:])
    knows_nothing = linear_network(
        np.zeros((N_CLASSES, N_CLASSES + 3)), np.zeros(N_CLASSES), X.shape[1:]
    )
    only_trigger = class_weights(6.0)
    only_trigger[2, 2] = -2
    examiner = Examiner(
        knows_nothing, linear_network(only_trigger, np.zeros(N_CLASSES), X.shape[1:])
    )
    examiner.labels = labels
    settings = {"examiner": examiner, "false_alarm_rate": 0.05, "seed": 0}
    finding = find_poison(network, as_samples(X), labels, sign * poison.astype(float), **settings)
    assert finding.classes.tolist() == [2]
    np.testing.assert_array_equal(finding.isolation.mask, poison)


def test_poison_in_two_classes_is_not_flagged_either(planted):
    """The one sign that is left takes clean classes for it as well."""
    X, labels, poison = plant({1: 12})
    rows = (labels == 1) | (labels == 2)
    network = linear_network(class_weights(6.0)[1:3], np.zeros(2), X.shape[1:])
    examiner = planted[-1]
    finding = search(X[rows], labels[rows] - 1, network, examiner)
    assert np.isnan(finding.p_value)
    assert not finding.isolation.mask.any()
    assert not any(examiner.asked.values())


def test_classes_too_small_to_split_are_trusted(planted):
    X, labels, _, network, examiner = planted
    few = np.concatenate([np.flatnonzero(labels == c)[:10] for c in range(N_CLASSES)])
    finding = search(X[few], labels[few], network, examiner)
    assert np.isnan(finding.p_value)
    assert finding.trusted.all()
    assert not finding.isolation.scores.any()
    assert finding.signs == {}
    assert not any(examiner.asked.values())


def missing_some(labels, poison):
    """Parts of class 2 by hand: the features do not tell three of the poisoned rows.

    Beside the parts, these three rows, and a natural one that is left open.
    """
    rows = np.flatnonzero(labels == 2)
    unlearned, undecided = np.flatnonzero(poison)[:3], np.flatnonzero((labels == 2) & ~poison)[0]
    probabilities = np.where(poison[rows] & ~np.isin(rows, unlearned), 1.0, 0.0)
    probabilities[rows == undecided] = 0.3
    return Parts(2, rows, probabilities, overlap=0.01, contrast=0.9), unlearned, undecided


def test_poison_that_the_features_do_not_tell_is_completed(planted, monkeypatch):
    X, labels, poison, network, examiner = planted
    parts, unlearned, undecided = missing_some(labels, poison)
    monkeypatch.setattr(_search, "split_classes", lambda *args: [parts])
    finding = search(X, labels, network, examiner)
    np.testing.assert_array_equal(finding.isolation.mask, poison)
    np.testing.assert_array_equal(finding.denied, poison)
    assert not finding.trusted[poison].any()
    assert not finding.trusted[undecided]
    assert finding.trusted[(labels == 2) & ~poison].mean() > 0.5
    # The network that completes it has seen neither the three nor natural rows; then, in a
    # second round that finds no more, the three as well.
    first, second = examiner.asked["rows"]
    assert not first[unlearned].any()
    assert second[unlearned].all()
    assert not second[(labels == 2) & ~poison].any()
    assert examiner.told[1:] == [(0.3, None), (0.1, examiner.networks["rows"][0])]


@pytest.mark.parametrize(
    ("probabilities", "n_rounds", "flagged"),
    [
        ([[0.9, 0.9, 0.9]] * 5, 2, [1, 1, 1]),
        ([[0.2, 0.2, 0.2]] * 5, 1, [0, 0, 0]),
        # Likely enough to be shown, not to be flagged.
        ([[0.4, 0.2, 0.0], [0.4, 0.2, 0.0]], 2, [0, 0, 0]),
        ([[0.4, 0.2, 0.0], [0.9, 0.4, 0.2], [0.9, 0.9, 0.4], [0.9, 0.9, 0.9]], 4, [1, 1, 1]),
        # One that goes and comes back is a find each time; five rounds are the end of it.
        ([[0.4, 0, 0], [0, 0.4, 0], [0.4, 0, 0], [0, 0.4, 0], [0.6, 0, 0.6]], 5, [1, 0, 1]),
    ],
    ids=["at once", "none", "unsure", "one by one", "without end"],
)
def test_what_a_round_finds_the_next_is_shown(
    planted, monkeypatch, probabilities, n_rounds, flagged
):
    X, labels, poison, network, examiner = planted
    parts, unlearned, _ = missing_some(labels, poison)
    monkeypatch.setattr(_completion, "_FEW", 1 / 12)  # of the twelve rows that the split flags
    told = iter(probabilities)
    asked = np.flatnonzero((labels == 2) & (~poison | np.isin(np.arange(len(labels)), unlearned)))

    def triggered(odds):
        assert odds.shape == asked.shape
        given = np.zeros(len(labels))
        given[unlearned] = next(told)
        return given[asked]

    monkeypatch.setattr(_search, "split_classes", lambda *args: [parts])
    monkeypatch.setattr(_completion, "_triggered", triggered)
    monkeypatch.setattr(_search, "_doubtful", lambda suspicion: suspicion.probabilities > 0.1)
    finding = search(X, labels, network, examiner)
    shown = [trained_on[unlearned].tolist() for trained_on in examiner.asked["rows"]]
    likely = [[False] * 3, *((np.array(given) > 0.3).tolist() for given in probabilities)]
    assert shown == likely[:n_rounds]
    assert finding.isolation.mask[unlearned].tolist() == [bool(row) for row in flagged]
    assert finding.trusted[unlearned].tolist() == [
        given <= 0.1 for given in probabilities[n_rounds - 1]
    ]
    # One network, trained further and further.
    shares, networks = zip(*examiner.told[1:], strict=True)
    assert shares == (0.3, 0.1, 0.1, 0.1, 0.1)[:n_rounds]
    assert networks == (None, *[examiner.networks["rows"][0]] * (n_rounds - 1))


def test_a_round_of_few_finds_is_the_last(planted, monkeypatch):
    X, labels, poison, network, examiner = planted
    parts, unlearned, _ = missing_some(labels, poison)
    monkeypatch.setattr(_search, "split_classes", lambda *args: [parts])
    # Of twelve that the split flags a tenth is more than one row, but not more than two.
    told = iter([[5.0, 4.0, -9.0], [5.0, 4.0, 6.0]])

    def log_odds(network, samples, labels):
        odds = np.full(len(labels), -9.0)
        odds[unlearned] = next(told)
        return odds

    monkeypatch.setattr(_completion, "_log_odds", log_odds)
    finding = search(X, labels, network, examiner)
    assert len(examiner.asked["rows"]) == 2
    assert finding.isolation.mask[unlearned].all()


def test_what_a_network_that_has_learned_the_class_says_is_not_heard(planted, monkeypatch):
    X, labels, poison, network, examiner = planted
    parts, unlearned, _ = missing_some(labels, poison)
    monkeypatch.setattr(_search, "split_classes", lambda *args: [parts])
    monkeypatch.setattr(_search, "_doubtful", lambda suspicion: suspicion.probabilities > 0.1)
    told = iter([[5.0, 4.0, -9.0], None])

    def log_odds(network, samples, labels):
        given = next(told)
        odds = np.full(len(labels), 9.0 if given is None else -9.0)
        if given is not None:
            odds[unlearned] = given
        return odds

    monkeypatch.setattr(_completion, "_log_odds", log_odds)
    finding = search(X, labels, network, examiner)
    # What the round before had found stays.
    assert finding.isolation.mask[unlearned].tolist() == [True, True, False]
    assert finding.isolation.mask[(labels == 2) & ~poison].sum() == 0
    assert len(examiner.asked["rows"]) == 2


def test_each_class_ends_its_rounds_for_itself(planted, monkeypatch):
    """Two classes: to one a round finds a row of forty, to the other all that it is shown."""
    X, labels, _, _, examiner = planted
    flagged = np.zeros(len(labels), dtype=bool)
    left = {}
    for label, n_flagged in ((1, 40), (4, 10)):
        rows = np.flatnonzero(labels == label)
        flagged[rows[:n_flagged]] = True
        left[label] = rows[n_flagged:]
    start = _search.Finding(
        isolation=Isolation(flagged.astype(float), 0.5),
        classes=np.array([1, 4]),
        p_value=0.0,
        trusted=~flagged,
        denied=np.zeros_like(flagged),
        signs={},
    )
    told = iter([(1, 3), (9, 6), (0, 6)])

    def log_odds(network, samples, labels):
        odds = np.full(len(labels), -9.0)
        for label, n_found in zip((1, 4), next(told), strict=True):
            odds[left[label][:n_found]] = 9.0
        return odds

    monkeypatch.setattr(_completion, "_log_odds", log_odds)
    examiner.labels = labels
    finding = _search._complete(start, as_samples(X), labels, examiner)
    found = finding.isolation.mask & ~flagged
    assert {label: found[rows].sum() for label, rows in left.items()} == {1: 1, 4: 6}
    assert len(examiner.asked["rows"]) == 3


def test_log_odds_are_those_of_the_label_against_all_others(planted):
    X, labels, _, network, _ = planted
    logits = compute_logits(network, as_samples(X)).double().numpy()
    own = softmax(logits, axis=1)[np.arange(len(labels)), labels]
    given = _completion._log_odds(network, as_samples(X), labels)
    near_even = np.abs(given) < 10  # beyond, the probability is rounded to 0 or 1
    assert near_even.any()
    np.testing.assert_allclose(given[near_even], logit(own[near_even]), rtol=1e-3)


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
    np.testing.assert_allclose(_completion._triggered(odds), expit(factor * (odds - middle)))


def test_where_a_network_is_hardly_surer_of_one_row_not_all_are_doubtful():
    """Natural rows of odds near one to six: a tenth and more, all of them."""
    natural = np.random.default_rng(0).normal(-1.8, 0.3, 400)
    assert (expit(natural) > 0.1).mean() > 0.9
    told = _completion._triggered(np.append(natural, 4.0))
    assert (told[:-1] > 0.1).mean() < 0.02
    # As far above even odds as the median is below: twice the way to the odds of a doubtful row.
    assert told[-1] == pytest.approx(81 / 82, abs=0.002)


def test_equal_odds_are_no_reason_to_flag():
    assert not (_completion._triggered(np.full(8, -3.0)) > 0.5).any()
    assert _completion._middle(np.full(8, 3.0)) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "odds",
    [[5.0, 6.0, 1.0, -2.0], [4.0, 5.0, -4.0, -5.0, -6.0]],
    ids=["likely for most", "two of five stand out"],
)
def test_a_network_that_has_learned_the_class_tells_nothing(odds):
    assert _completion._triggered(np.array(odds)) is None


def test_doubtful_rows_are_neither_flagged_nor_trusted(planted, monkeypatch):
    X, labels, poison, network, _ = planted
    # It takes class 2 for class 3, and is less sure of it than of the classes it knows.
    weight = class_weights()
    weight[3, 2] = 1.0
    new = linear_network(weight, np.zeros(N_CLASSES), X.shape[1:])
    # Its other network has learned the class itself, and can complete nothing.
    examiner = Examiner(new, network)
    parts, unlearned, undecided = missing_some(labels, poison)
    monkeypatch.setattr(_search, "split_classes", lambda *args: [parts])
    monkeypatch.setattr(_search, "information", parts_of_diversity(0.5))  # says nothing
    finding = search(X, labels, network, examiner)
    assert finding.classes.tolist() == [2]
    flagged = set(np.flatnonzero(finding.isolation.mask))
    assert flagged == set(np.flatnonzero(poison)) - set(unlearned)
    # The examiner is as sure of the three as of the poison.
    assert not finding.trusted[unlearned].any()
    assert not finding.trusted[undecided]
    assert finding.trusted[(labels == 2) & ~poison].mean() > 0.5


def test_not_searched():
    finding = not_searched(flag_nothing(5))
    assert not finding.isolation.mask.any()
    assert finding.trusted.all()
    assert not finding.denied.any()
    assert np.isnan(finding.p_value)
    assert (len(finding.classes), finding.signs) == (0, {})
    # Who isolates by a rule of their own may still deny them their label.
    found = not_searched(Isolation(np.array([0.0, 1.0, 0.0]), 0.5))
    assert found.denied.tolist() == [False, True, False]


# ----------------------------------------------------------------------- the ABLClassifier

NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


@pytest.fixture(scope="module")
def poisoned(split_digits):
    X, _, y, _ = split_digits
    return make_poisoned(X, y, attack="badnets", poison_rate=0.1, random_state=0)


def test_most_poison_in_digits_is_flagged(poisoned):
    X_bad, y_bad, poison_mask = poisoned
    clf = ABLClassifier(isolation_epochs=6, finetune_epochs=3, random_state=0)
    clf.fit(X_bad, NAMES[y_bad])
    assert clf.unlearned_
    assert clf.isolate_classes_.tolist() == ["zero"]
    assert clf.isolate_classes_.dtype == clf.classes_.dtype
    assert clf.isolate_pvalue_ < clf.false_alarm_rate
    assert isolation_recall(poison_mask, clf.isolate_mask_) > 0.9
    assert isolation_precision(poison_mask, clf.isolate_mask_) > 0.9
    # The signs are in the order of classes_.
    target = clf.classes_.tolist().index("zero")
    assert set(clf.isolate_signs_) == {"transplant", "diversity", "misfits"}
    page = resources.files("antibackdoor.inspection").joinpath("report.html").read_text()
    assert all(f"{sign.capitalize()}:" in page for sign in clf.isolate_signs_)
    assert clf.isolate_signs_["transplant"].shape == clf.classes_.shape
    assert np.nanargmax(clf.isolate_signs_["transplant"]) == target
    assert phases(clf) == ["isolate", "examine", "finetune"]


def test_a_network_is_trained_further_at_half_the_rate(poisoned, monkeypatch):
    X_bad, y_bad = poisoned[0][:60], poisoned[1][:60]
    networks = []

    def asks_twice(network, samples, labels, scores, *, examiner, **settings):
        every_row = np.ones(len(labels), dtype=bool)
        networks.append(examiner(every_row, 0.5))
        networks.append(examiner(every_row, 0.5, networks[0]))
        return not_searched(flag_nothing(len(labels)))

    monkeypatch.setattr(_searching, "find_poison", asks_twice)
    with pytest.warns(UserWarning, match="has not searched"):
        clf = quick(isolation_epochs=5).fit(X_bad, y_bad)
    assert networks[0] is networks[1]
    rates = [row["learning_rate"] for row in clf.history_ if row["phase"] == "examine"]
    # Three epochs, of two and a half, each time.
    assert rates[3:] == pytest.approx([rate / 2 for rate in rates[:3]])


@pytest.mark.parametrize(
    ("classifier", "settings", "phase", "denies"),
    [
        (ABLClassifier, {"finetune_epochs": 1}, "finetune", True),
        (ABLClassifier, {"finetune_epochs": 1, "unlearning": "negative"}, "finetune", True),
        (ABLClassifier, {"finetune_epochs": 1, "unlearning": "retrain"}, "finetune", False),
        (CBDClassifier, {"clean_epochs": 1}, "clean", True),
    ],
)
def test_what_the_last_network_learns_of_each_row(
    poisoned, monkeypatch, classifier, settings, phase, denies
):
    X_bad, y_bad = poisoned[0][:60], poisoned[1][:60]
    rows = np.arange(60)
    scores = np.select([rows < 6, rows < 8], [0.9, 0.3], 0.0)
    found = _search.Finding(
        isolation=Isolation(scores, 0.5),
        classes=np.unique(y_bad[:6]),
        p_value=0.0,
        trusted=rows >= 8,
        denied=rows < 4,
        signs={},
    )
    monkeypatch.setattr(_searching, "find_poison", lambda *args, **settings: found)
    told = {}

    class Spied(classifier):
        def _run_phase(self, run, name, network, **given):
            told[name] = given
            return super()._run_phase(run, name, network, **given)

    first = {"isolation_epochs": 1} if classifier is ABLClassifier else {"backdoor_epochs": 1}
    clf = Spied(random_state=0, **first, **settings).fit(X_bad, y_bad)
    epoch = told[phase]["batches"].epoch(torch.Generator().manual_seed(0))
    denied = rows[:4].tolist() if denies else []
    assert sorted(torch.cat(list(epoch)).tolist()) == denied + rows[8:].tolist()
    assert torch.nonzero(told[phase]["objective"]._denied).flatten().tolist() == denied
    assert clf.isolate_mask_[:6].all()
    # The doubtful two are judged by it: after an epoch it rejects whatever label.
    rejected = clf.predict(X_bad) != y_bad
    assert rejected[6:8].any()
    assert clf.isolate_mask_[6:8].tolist() == rejected[6:8].tolist()
    assert not clf.isolate_mask_[8:].any()


def test_nothing_is_flagged_in_clean_digits(split_digits):
    X, _, y, _ = split_digits
    clf = ABLClassifier(isolation_epochs=6, finetune_epochs=3, random_state=0).fit(X, y)
    assert len(clf.isolate_) == 0
    assert len(clf.isolate_classes_) == 0
    assert not clf.isolate_mask_.any()
    assert clf.isolate_pvalue_ > clf.false_alarm_rate
    assert not clf.unlearned_


def test_a_fixed_ratio_tests_nothing(poisoned):
    X_bad, y_bad = poisoned[0][:300], NAMES[poisoned[1][:300]]
    clf = quick(isolation_ratio=0.02, unlearning="ascent").fit(X_bad, y_bad)
    assert np.isnan(clf.isolate_pvalue_)
    assert clf.isolate_signs_ == {}
    assert len(clf.isolate_) == 6
    np.testing.assert_array_equal(clf.isolate_classes_, np.unique(y_bad[clf.isolate_]))


def phases(clf):
    return list(dict.fromkeys(row["phase"] for row in clf.history_))


def quick(**changes):
    settings = {
        "backbone": "mlp",
        "isolation_epochs": 2,
        "finetune_epochs": 1,
        "unlearning_epochs": 1,
        "recovery_epochs": 1,
        "random_state": 0,
    }
    return ABLClassifier(**{**settings, **changes})


def test_phases_that_are_not_needed_are_left_out(poisoned, capsys):
    X_bad, y_bad = poisoned[0][:150], poisoned[1][:150] % 2  # two classes: nobody to examine
    with pytest.warns(UserWarning, match="has not searched"):
        clf = quick().set_callbacks(ProgressBar()).fit(X_bad, y_bad)
    assert phases(clf) == ["isolate", "finetune"]
    bars = capsys.readouterr().out.splitlines()
    assert len(bars) == 3
    assert all("100%" in bar for bar in bars)


# ------------------------------------------------------------------------------ the memory


@pytest.fixture(scope="module")
def few(poisoned):
    """Of ten classes thirty rows each, so that they are split and examined."""
    X_bad, y_bad, _ = poisoned
    return X_bad[:320], y_bad[:320]


@pytest.fixture
def isolations(monkeypatch):
    """Settings of the classifiers that trained stage one."""
    called = []
    isolate = ABLClassifier._isolate

    def spy(clf, run, network):
        called.append(clf.get_params())
        return isolate(clf, run, network)

    monkeypatch.setattr(ABLClassifier, "_isolate", spy)
    return called


def told(clf):
    """The history, but for the time that it took."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in clf.history_]


def assert_same_fit(one, other, X):
    np.testing.assert_array_equal(one.decision_function(X), other.decision_function(X))
    np.testing.assert_array_equal(one.isolate_scores_, other.isolate_scores_)
    np.testing.assert_array_equal(one.isolate_, other.isolate_)
    np.testing.assert_array_equal(one.isolate_pvalue_, other.isolate_pvalue_)
    np.testing.assert_array_equal(one.isolate_classes_, other.isolate_classes_)
    for sign, values in one.isolate_signs_.items():
        np.testing.assert_array_equal(values, other.isolate_signs_[sign])
    assert told(one) == told(other)


@pytest.mark.parametrize(
    "settings",
    [{}, {"isolation_ratio": 0.05}, {"isolation_ratio": 0.05, "unlearning": "joint"}],
    ids=["auto", "fixed", "joint"],
)
def test_what_is_remembered_is_what_would_be_computed(few, tmp_path, isolations, settings):
    forgetful = quick(**settings).fit(*few)
    assert len(isolations) == 1
    for n_computed in (2, 2):
        clf = quick(memory=str(tmp_path), **settings).fit(*few)
        assert len(isolations) == n_computed
        assert_same_fit(clf, forgetful, few[0])


def test_global_randomness_is_left_as_it_was(few, tmp_path):
    for _ in range(2):
        torch.manual_seed(5)
        quick(memory=str(tmp_path)).fit(*few)
        assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def memory_of_quick(few, tmp_path_factory):
    """A folder that holds stage one of `quick`; to be copied."""
    folder = tmp_path_factory.mktemp("memory")
    quick(memory=str(folder)).fit(*few)
    return folder


@pytest.mark.parametrize(
    ("change", "n_computed"),
    [
        ({"finetune_epochs": 2}, 0),
        ({"unlearning": "joint"}, 0),
        ({"lr_schedule": "cosine"}, 0),
        ({"gamma": 0.3}, 1),
        ({"isolation_epochs": 1}, 1),
        ({"false_alarm_rate": 0.2}, 1),
        ({"isolation_ratio": 0.05}, 1),
        ({"backbone": "small-cnn"}, 1),
        ({"learning_rate": 0.05}, 1),
        ({"random_state": 1}, 1),
    ],
    ids=str,
)
def test_what_comes_after_stage_one_does_not_compute_it_again(
    few, tmp_path, memory_of_quick, isolations, change, n_computed
):
    shutil.copytree(memory_of_quick, tmp_path / "memory")
    changed = quick(memory=str(tmp_path / "memory"), **change).fit(*few)
    assert len(isolations) == n_computed
    assert_same_fit(changed, quick(**change).fit(*few), few[0])


@pytest.mark.parametrize("other", ["X", "y", "order"])
def test_other_data_is_computed_again(few, tmp_path, isolations, other):
    X, y = few
    quick(memory=str(tmp_path)).fit(X, y)
    if other == "X":
        X = X.copy()
        X[0, 0, 0] ^= 1
    elif other == "y":
        y = y.copy()
        y[0] = (y[0] + 1) % 10
    else:
        X, y = X[::-1], y[::-1]
    quick(memory=str(tmp_path)).fit(X, y)
    assert len(isolations) == 2


def test_a_memory_of_joblib(few, tmp_path, isolations):
    memory = joblib.Memory(tmp_path, verbose=0)
    one, other = (quick(memory=memory).fit(*few) for _ in range(2))
    assert len(isolations) == 1
    assert_same_fit(one, other, few[0])
    memory.clear(warn=False)
    quick(memory=memory).fit(*few)
    assert len(isolations) == 2


@pytest.mark.filterwarnings("ignore:.*has not searched for poison:UserWarning")
def test_a_search_over_the_cure_isolates_once_a_fold(few, tmp_path, isolations):
    grid = {"finetune_epochs": [1, 2, 3]}
    search = GridSearchCV(quick(memory=str(tmp_path)), grid, cv=2, refit=False).fit(*few)
    assert len(isolations) == 2
    plain = GridSearchCV(quick(), grid, cv=2, refit=False).fit(*few)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )


def test_a_backbone_without_a_name_is_not_remembered(few, tmp_path, isolations):
    # joblib knows a function by its name alone, and would not see that it was rewritten.
    clf = quick(memory=str(tmp_path), backbone=small_network)
    one, other = (clone(clf).fit(*few) for _ in range(2))
    assert len(isolations) == 2
    assert_same_fit(one, other, few[0])


def small_network(input_shape, n_classes):
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, n_classes)
    )
