"""Which label the attacker wants for a row, which rows may be poisoned, and what counts."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from antibackdoor.attacks import (
    SIG,
    BadNets,
    Composite,
    OneToMany,
    OneToOne,
    make_attack,
)
from antibackdoor.datasets import make_poisoned
from antibackdoor.metrics import make_asr_scorer, make_robust_accuracy_scorer

IMAGES = np.random.default_rng(0).integers(0, 256, (80, 8, 8)).astype(np.uint8)
CLASSES = np.arange(4)
Y = np.resize(CLASSES, len(IMAGES))


def swap_first_two(codes, classes, target_label):
    """A label map as a user may write one."""
    return np.where(codes < 2, 1 - codes, codes)


class Always:
    """A classifier that says for the rows, in turn, what it was told to say."""

    def __init__(self, answers):
        self.answers = np.asarray(answers)

    def predict(self, X):
        return np.resize(self.answers, len(X))


# --- the maps that have a name


def test_all_to_one():
    attack = BadNets(target_label=2)
    np.testing.assert_array_equal(attack.transform_target([0, 1, 2, 2]), [2, 2, 2, 2])
    np.testing.assert_array_equal(attack.eligible([0, 1, 2, 2]), [True, True, False, False])


def test_all_to_all_steps_through_the_sorted_classes():
    attack = BadNets(label_map="all_to_all")
    np.testing.assert_array_equal(attack.transform_target([9, 3, 5, 3]), [3, 5, 9, 5])
    assert attack.eligible([9, 3, 5, 3]).all()


def test_clean_label_may_poison_only_the_target_class():
    y = np.array([0, 1, 0, 2])
    assert SIG.clean_label
    assert not BadNets.clean_label
    np.testing.assert_array_equal(SIG().eligible(y), [True, False, True, False])
    np.testing.assert_array_equal(SIG().transform_target(y), [0, 0, 0, 0])


def test_classes_of_fit_serve_labels_that_lack_some():
    X = IMAGES[:3]
    attack = BadNets(label_map="all_to_all").fit(X, [0, 1, 2])
    np.testing.assert_array_equal(attack.transform_target([0, 2]), [1, 0])
    np.testing.assert_array_equal(BadNets().transform_target([1, 2], classes=[0, 1, 2]), [0, 0])
    assert not hasattr(attack.fit(X), "classes_")


@pytest.mark.parametrize(
    ("y", "target"),
    [
        (np.array(["a", "b"]), "a"),
        (np.array(["a", "b"], dtype=object), "b"),
        (np.array([True, False]), True),
        (np.array([0, 1], dtype=np.int8), 1),
        (np.array([0.0, 1.0], dtype=np.float32), 1.0),
    ],
)
def test_labels_keep_their_dtype(y, target):
    before = y.copy()
    wanted = BadNets(target_label=target).transform_target(y)
    assert wanted.dtype == y.dtype
    assert wanted.tolist() == [target] * 2
    assert not np.shares_memory(wanted, y)
    np.testing.assert_array_equal(y, before)


def test_labels_are_never_cut():
    attack = BadNets(target_label="aeroplane").fit(IMAGES[:2], ["aeroplane", "cat"])
    assert attack.transform_target(np.array(["cat"])).tolist() == ["aeroplane"]
    small = BadNets(target_label=300)
    assert small.transform_target(np.array([1], np.int8), classes=[1, 300]).tolist() == [300]


def test_fit_takes_any_target_and_labels_are_asked_for_where_used():
    X = IMAGES[:3]
    attack = BadNets(target_label=7).fit(X, [0.5, 1.5, np.nan])
    with pytest.raises(ValueError, match="y holds numbers that are not whole"):
        attack.transform_target([0.5, 1.5])


# --- one class alone


def test_one_to_one():
    attack = BadNets(label_map=OneToOne(3), target_label=1)
    np.testing.assert_array_equal(attack.transform_target([0, 3, 1, 3, 2]), [0, 1, 1, 1, 2])
    np.testing.assert_array_equal(attack.eligible([0, 3, 1, 3, 2]), [0, 1, 0, 1, 0])


def test_one_to_many_goes_through_the_other_classes_in_turn():
    attack = BadNets(label_map=OneToMany(3))
    y = [3, 0, 3, 3, 2, 3]
    np.testing.assert_array_equal(attack.transform_target(y, classes=CLASSES), [0, 0, 1, 2, 2, 0])
    np.testing.assert_array_equal(attack.eligible(y, classes=CLASSES), [1, 0, 1, 1, 0, 1])


def test_one_to_many_goes_through_the_classes_named():
    attack = BadNets(label_map=OneToMany(0, target_labels=[3, 1]))
    np.testing.assert_array_equal(
        attack.transform_target([0, 0, 2, 0], classes=CLASSES), [3, 1, 2, 3]
    )


def test_maps_of_one_class_with_strings():
    y = np.array(["cat", "dog", "ship", "cat", "cat"])
    one = BadNets(label_map=OneToOne("cat"), target_label="ship")
    assert one.transform_target(y).tolist() == ["ship", "dog", "ship", "ship", "ship"]
    many = BadNets(label_map=OneToMany("cat"))
    assert many.transform_target(y).tolist() == ["dog", "dog", "ship", "ship", "dog"]
    assert many.transform_target(y).dtype == y.dtype
    assert many.succeeded(y, ["ship", "dog", "ship", "dog", "cat"])[[0, 3, 4]].tolist() == [
        True,
        True,
        False,
    ]


def test_callable_of_one_s_own():
    attack = BadNets(label_map=swap_first_two)
    y = np.array(["a", "b", "c"])
    assert attack.transform_target(y).tolist() == ["b", "a", "c"]
    assert attack.eligible(y).tolist() == [True, True, False]
    assert attack.succeeded(y, ["b", "b", "c"]).tolist() == [True, False, True]


@pytest.mark.parametrize(
    "label_map",
    [swap_first_two, OneToOne(3), OneToMany(3), OneToMany(0, target_labels=(1, 2))],
)
def test_clone_and_pickle(label_map):
    attack = BadNets(label_map=label_map, target_label=1)
    wanted = attack.transform_target(Y)
    for copied in (clone(attack), pickle.loads(pickle.dumps(attack.fit(IMAGES, Y)))):
        assert copied.label_map == label_map
        np.testing.assert_array_equal(copied.transform_target(Y), wanted)
    agreed = make_attack(attack, label_map=pickle.loads(pickle.dumps(label_map)))
    assert agreed is attack


def test_repr():
    one, many = BadNets(label_map=OneToOne(3)), BadNets(label_map=OneToMany("cat"))
    assert repr(one) == "BadNets(label_map=OneToOne(source_label=3))"
    assert repr(many) == "BadNets(label_map=OneToMany(source_label='cat', target_labels=None))"


# --- what counts as a success


def test_succeeded_asks_for_the_label_wanted():
    attack = BadNets(target_label=2)
    np.testing.assert_array_equal(
        attack.succeeded([0, 1, 0, 1], [2, 2, 0, 1], classes=CLASSES), [1, 1, 0, 0]
    )
    everyone = BadNets(label_map="all_to_all")
    np.testing.assert_array_equal(everyone.succeeded([0, 1, 2, 3], [1, 2, 2, 0]), [1, 1, 0, 1])


def test_any_target_of_one_to_many_is_a_success():
    attack = BadNets(label_map=OneToMany(3, target_labels=[0, 1]))
    y, y_pred = [3, 3, 3, 3], [1, 0, 2, 3]
    np.testing.assert_array_equal(attack.succeeded(y, y_pred, classes=CLASSES), [1, 1, 0, 0])


@pytest.mark.parametrize(
    "y_pred", [["0", "0"], [b"0", b"0"], [None, 0], [0, np.nan], [0], [0.5, 0]]
)
@pytest.mark.parametrize("label_map", ["all_to_one", OneToMany(1)])
def test_succeeded_of_labels_that_cannot_be_compared(label_map, y_pred):
    """All of them would count as failures of the attack."""
    with pytest.raises(ValueError, match="y_pred"):
        BadNets(label_map=label_map).succeeded([1, 2], y_pred, classes=[0, 1, 2])


def test_succeeded_uses_the_classes_of_fit():
    attack = BadNets(label_map=OneToMany(3)).fit(IMAGES, Y)
    np.testing.assert_array_equal(attack.succeeded([3, 3], [2, 3]), [1, 0])
    with pytest.raises(ValueError, match=r"no class: \[9\]"):
        attack.succeeded([3, 3], [9, 3])


def test_composite_s_donors_are_not_counted():
    attack = Composite(label_map=OneToOne(3), target_label=0)  # class 1 gives the donors
    np.testing.assert_array_equal(attack.transform_target(CLASSES), [0, 1, 2, 0])
    both = Composite(label_map=OneToOne(1), target_label=0)
    assert not both.eligible(Y).any()


# --- in make_poisoned and the scorers


@pytest.mark.parametrize("strings", [False, True])
def test_make_poisoned_one_to_one(strings):
    names = np.array(["a", "b", "c", "d"]) if strings else CLASSES
    y = names[Y]
    attack = BadNets(label_map=OneToOne(names[3]), target_label=names[1])
    X_bad, y_bad, poison = make_poisoned(IMAGES, y, attack=attack, random_state=0)
    assert poison.sum() == 8
    assert (y[poison] == names[3]).all()
    assert (y_bad[poison] == names[1]).all()
    np.testing.assert_array_equal(y_bad[~poison], y[~poison])
    np.testing.assert_array_equal(X_bad[~poison], IMAGES[~poison])
    assert y_bad.dtype == y.dtype


@pytest.mark.parametrize("strings", [False, True])
def test_make_poisoned_one_to_many(strings):
    names = np.array(["a", "b", "c", "d"]) if strings else CLASSES
    y = names[Y]
    _, y_bad, poison = make_poisoned(
        IMAGES,
        y,
        attack=BadNets(label_map=OneToMany(names[3])),
        poison_rate=0.2,
        random_state=0,
    )
    assert poison.sum() == 16
    assert (y[poison] == names[3]).all()
    assert set(y_bad[poison]) == set(names[:3])
    np.testing.assert_array_equal(y_bad[~poison], y[~poison])


def test_a_source_that_is_the_only_class_is_of_no_use():
    assert not BadNets(label_map=OneToMany(0)).eligible([0, 0]).any()


def test_make_poisoned_asks_for_no_more_rows_than_the_source_has():
    with pytest.raises(ValueError, match="BadNets can poison only 20 of them"):
        make_poisoned(IMAGES, Y, attack=BadNets(label_map=OneToOne(3)), poison_rate=0.5)


def test_asr_scorer_one_to_one_counts_rows_of_the_source():
    scorer = make_asr_scorer(BadNets(label_map=OneToOne(3)), greater_is_better=True)
    assert scorer(Always([0]), IMAGES, Y) == 1
    assert scorer(Always([0, 3, 2, 3]), IMAGES, Y) == 1 / 4


def test_asr_scorer_one_to_many_counts_any_target():
    scorer = make_asr_scorer(BadNets(label_map=OneToMany(3)), greater_is_better=True)
    assert scorer(Always([0, 1, 2, 3]), IMAGES, Y) == 3 / 4
    some = BadNets(label_map=OneToMany(3, target_labels=[0]))
    assert make_asr_scorer(some)(Always([0, 1, 2, 3]), IMAGES, Y) == -1 / 4
    assert make_robust_accuracy_scorer(some)(Always([0, 1, 2, 3]), IMAGES, Y) == 1 / 4


# --- what goes wrong


@pytest.mark.parametrize(
    ("attack", "y", "match"),
    [
        (BadNets(target_label=7), [0, 1], r"target_label=7 is no class.*\[0, 1\]"),
        (BadNets(target_label="0"), [0, 1], "target_label='0' is no class"),
        (BadNets(), ["a", "b"], r"target_label=0 is no class.*\['a', 'b'\]"),
        (BadNets(target_label=100), np.arange(50), r"\.\.\.\] \(50 in all\)"),
        (BadNets(), [], "y is empty"),
        (BadNets(), [[0, 1], [1, 0]], "1d array"),
        (BadNets(), [0, np.nan], "NaN"),
        (BadNets(), np.array([0, "a"], dtype=object), "y mixes numbers and text"),
        (BadNets(label_map="none"), [0, 1], "label_map='none'"),
        (BadNets(label_map=OneToOne(7)), [0, 1], r"source_label=7 is no class.*\[0, 1\]"),
        (BadNets(label_map=OneToOne(1), target_label=7), [0, 1], "target_label=7 is no class"),
        (BadNets(label_map=OneToOne([0])), [0, 1], r"source_label=\[0\] is no class"),
        (BadNets(label_map=OneToMany("x")), [0, 1], "source_label='x' is no class"),
        (BadNets(label_map=OneToMany(0, [1, 7])), [0, 1], "target_labels=7 is no class"),
        (BadNets(label_map=OneToMany(0, [])), [0, 1], r"target_labels=\[\]; wanted one class"),
        (BadNets(label_map=OneToMany(0, [1, 0])), [0, 1], "not the source_label, 0"),
    ],
)
@pytest.mark.parametrize("method", ["transform_target", "eligible"])
def test_bad_labels(attack, method, y, match):
    with pytest.raises(ValueError, match=match):
        getattr(attack, method)(y)


def test_label_unknown_to_fit():
    attack = BadNets().fit(IMAGES[:2], [0, 1])
    with pytest.raises(ValueError, match=r"no class: \[2\]"):
        attack.transform_target([0, 2])
