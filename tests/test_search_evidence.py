"""What speaks for poison in each class, by hand: p-values, levels, and which part is suspect."""

from __future__ import annotations

import numpy as np
import pytest

from antibackdoor.detection._evidence import Signs
from antibackdoor.detection._evidence import weigh as weigh_known
from antibackdoor.detection._parts import Parts
from antibackdoor.detection._suspects import Candidate, Suspects
from antibackdoor.detection._transplant import Transplant

NAN = float("nan")
LEVEL = 0.005
N_KNOWN = 7

# Of ten natural classes: most of them have no foreign part at all.
FOREIGN = np.array([0.0, -0.3, 0.25, 0.1, -0.6, 0.3, 0.0, 0.2, -0.1, 0.15])


def signs_of(
    label=0,
    *,
    diversity=0.4,
    foreignness=0.2,
    rest_diversity=0.4,
    split_diversity=0.3,
    n_recognised=1000,
    converted=0.02,
    of_second=False,
    n_rows=2000,
):
    """The first fifth of the rows are the first part, and the last fifth the suspect one."""
    rows = n_rows * label + np.arange(n_rows)
    share = np.linspace(0, 1, n_rows)
    suspect = Candidate(
        parts=Parts(label, rows, np.where(share > 0.8, 0.8, 0.1)),
        diversity=diversity,
        rest_diversity=rest_diversity,
        foreignness=foreignness,
        n_recognised=n_recognised,
    )
    return Signs(
        suspects=Suspects(suspect, suspect, np.zeros(n_rows)),
        parts=Parts(label, rows, np.where(share < 0.2, 0.9, 0.2)),
        transplant=Transplant(converted, of_second),
        split_diversity=split_diversity,
    )


def weigh(signs, level):
    return weigh_known(signs, N_KNOWN, level)


def ten_classes(**of_first):
    """Ten natural classes, the first of which has these signs."""
    signs = [signs_of(label, foreignness=value) for label, value in enumerate(FOREIGN)]
    return [signs_of(0, **of_first), *signs[1:]]


def test_of_natural_classes_none_is_poisoned():
    evidence = weigh(ten_classes(), LEVEL)
    assert not any(one.is_poisoned for one in evidence)
    assert all(0 < one.p_value <= 1 for one in evidence)
    assert min(one.p_value for one in evidence) > 0.1


@pytest.mark.parametrize(
    "sign",
    [{"foreignness": 3.0}, {"converted": 0.9}],
    ids=lambda sign: next(iter(sign)),
)
def test_a_class_with_one_large_sign_is_poisoned(sign):
    first, *others = weigh(ten_classes(**sign), LEVEL)
    assert first.is_poisoned
    assert not any(one.is_poisoned for one in others)
    # The larger, the smaller the p-value.
    name, value = next(iter(sign.items()))
    assert weigh(ten_classes(**{name: value / 2}), LEVEL)[0].p_value > first.p_value


def test_half_of_the_classes_may_be_poisoned():
    natural = [signs_of(label, foreignness=value) for label, value in enumerate(FOREIGN)]
    poisoned = [signs_of(label, diversity=0.9, foreignness=2.0) for label in range(5)]
    evidence = weigh(poisoned + natural[5:], LEVEL)
    assert [one.is_poisoned for one in evidence] == [True] * 5 + [False] * 5


def test_a_class_that_is_foreign_in_part_as_all_others_are_is_natural():
    signs = [signs_of(label, foreignness=1 + value) for label, value in enumerate(FOREIGN)]
    assert not any(one.is_poisoned for one in weigh(signs, LEVEL))


def test_the_order_of_the_classes_does_not_matter():
    signs = ten_classes(foreignness=1.0, converted=0.3)
    forwards, backwards = weigh(signs, LEVEL), weigh(signs[::-1], LEVEL)[::-1]
    for one, same in zip(forwards, backwards, strict=True):
        assert one.label == same.label
        assert one.p_value == pytest.approx(same.p_value)


def test_the_p_value_allows_for_the_number_of_signs():
    one = weigh(ten_classes(foreignness=0.8, converted=0.2), LEVEL)[0]
    told = np.array([one.foreign_p, one.transplant_p, one.together_p])
    assert one.p_value == pytest.approx(3 / (1 / told).sum())


@pytest.mark.parametrize(
    "natural", [{"diversity": 0.05}, {"foreignness": -0.1, "rest_diversity": 0.85}], ids=str
)
def test_poison_is_diverse_and_foreign_and_a_natural_part_may_be_either(natural):
    poison = {"diversity": 0.9, "foreignness": 2.0}
    assert weigh(ten_classes(**poison), LEVEL)[0].foreign_p < 1e-5
    assert weigh(ten_classes(**poison | natural), LEVEL)[0].foreign_p == 1.0


def test_a_part_that_is_far_more_diverse_than_its_rest_is_poison_although_it_is_not_foreign():
    """A probe that a trigger confuses takes all for a few classes, the rest of the class too."""
    confused = {"foreignness": -0.5, "diversity": 0.6}
    assert weigh(ten_classes(**confused, rest_diversity=0.1), LEVEL)[0].is_poisoned
    assert not weigh(ten_classes(**confused, rest_diversity=0.5), LEVEL)[0].is_poisoned


def test_what_few_rows_show_is_uncertain():
    assert weigh(ten_classes(foreignness=1.6, n_recognised=1000), LEVEL)[0].is_poisoned
    assert not weigh(ten_classes(foreignness=1.6, n_recognised=60), LEVEL)[0].is_poisoned


def test_a_transplant_of_few_rows_says_nothing():
    assert weigh(ten_classes(converted=0.5), LEVEL)[0].is_poisoned
    # A fifth of sixty.
    assert not weigh(ten_classes(converted=0.5, n_rows=60), LEVEL)[0].is_poisoned


def test_signs_beyond_the_smallest_float_are_no_error():
    one = weigh(ten_classes(converted=1.0, foreignness=1e60), LEVEL)[0]
    assert 0 < one.p_value < 1e-15


def test_two_moderate_signs_are_a_strong_one_together():
    for one_of_them in ({"foreignness": 0.75}, {"converted": 0.24}):
        assert not weigh(ten_classes(**one_of_them), LEVEL)[0].is_poisoned
    assert weigh(ten_classes(foreignness=0.75, converted=0.24), LEVEL)[0].is_poisoned


def test_the_level_is_what_the_p_value_has_to_be_below():
    signs = ten_classes(foreignness=0.8)
    p_value = weigh(signs, LEVEL)[0].p_value
    assert weigh(signs, 1.01 * p_value)[0].is_poisoned
    assert not weigh(signs, p_value)[0].is_poisoned


def test_two_parts_that_both_look_like_no_other_class_speak_against_a_transplant():
    """Light and dark images of one thing: a transplant alone would speak against the class."""
    assert not weigh(ten_classes(converted=0.9, split_diversity=0.05), LEVEL)[0].is_poisoned


@pytest.mark.parametrize("converted", [0.0, -0.2])
def test_no_transplant_is_no_sign(converted):
    assert weigh(ten_classes(converted=converted), LEVEL)[0].transplant_p == 1.0


def test_where_nothing_foreign_could_be_told_the_transplant_speaks_alone():
    untold = {"diversity": NAN, "foreignness": NAN, "split_diversity": NAN}
    signs = [signs_of(label, **untold) for label in range(1, 6)]
    first, *others = weigh([signs_of(0, converted=0.9, **untold), *signs], LEVEL)
    assert first.is_poisoned
    assert first.foreign_p == 1.0
    assert not any(one.is_poisoned for one in others)


# ------------------------------------------------------------------------ which rows are suspect


def suspects(**of_first):
    one = weigh(ten_classes(**of_first), LEVEL)[0]
    assert one.is_poisoned
    return one.rows[one.probabilities > 0.5].tolist(), one.is_of_other_classes


FIRST, LAST = list(range(400)), list(range(1600, 2000))


def test_of_a_class_with_a_foreign_part_this_part_is_suspect():
    assert suspects(foreignness=3.0) == (LAST, True)
    assert suspects(foreignness=3.0, converted=0.9) == (LAST, True)


@pytest.mark.parametrize("foreignness", [0.1, NAN])
def test_of_a_class_that_is_told_by_its_transplant_the_part_that_was_put_on_is_suspect(foreignness):
    told = {"converted": 0.9, "foreignness": foreignness}
    assert suspects(**told) == (FIRST, False)
    assert suspects(**told, of_second=True) == (list(range(400, 2000)), False)
