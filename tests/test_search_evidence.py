"""What speaks for poison in each class, by hand: p-values, levels, and which part is suspect."""

from __future__ import annotations

import numpy as np
import pytest

from antibackdoor.detection._evidence import Signs
from antibackdoor.detection._evidence import weigh as weigh_known
from antibackdoor.detection._parts import Parts
from antibackdoor.detection._transplant import Transplant

NAN = float("nan")
LEVEL = 0.005
N_KNOWN = 7

# Of ten natural classes.
DIVERSITIES = np.array([0.31, 0.25, 0.36, 0.28, 0.3, 0.33, 0.27, 0.29, 0.35, 0.24])


def signs_of(
    label=0,
    *,
    diversity=0.3,
    rest_diversity=0.2,
    split_diversity=0.3,
    n_suspect=100,
    converted=0.02,
    of_second=False,
):
    """Ten rows, of which the first two are the first part, and the last two the foreign one."""
    rows = 10 * label + np.arange(10)
    return Signs(
        parts=Parts(label, rows, np.repeat([0.9, 0.2], [2, 8])),
        foreign=Parts(label, rows, np.repeat([0.1, 0.8], [8, 2])),
        transplant=Transplant(converted, of_second),
        split_diversity=split_diversity,
        diversity=diversity,
        rest_diversity=rest_diversity,
        n_suspect=n_suspect,
    )


def weigh(signs, level):
    return weigh_known(signs, N_KNOWN, level)


def ten_classes(**of_first):
    """Ten natural classes, the first of which has these signs."""
    signs = [signs_of(label, diversity=value) for label, value in enumerate(DIVERSITIES)]
    return [signs_of(0, **of_first), *signs[1:]]


def test_of_natural_classes_none_is_poisoned():
    evidence = weigh(ten_classes(), LEVEL)
    assert not any(one.is_poisoned for one in evidence)
    assert all(0 < one.p_value <= 1 for one in evidence)
    assert min(one.p_value for one in evidence) > 0.1


@pytest.mark.parametrize(
    "sign",
    [{"diversity": 0.95}, {"converted": 0.9}],
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
    natural = [signs_of(label, diversity=value) for label, value in enumerate(DIVERSITIES)]
    poisoned = [signs_of(label, diversity=0.95) for label in range(5)]
    evidence = weigh(poisoned + natural[5:], LEVEL)
    assert [one.is_poisoned for one in evidence] == [True] * 5 + [False] * 5


def test_a_class_that_is_diverse_as_all_others_are_is_natural():
    signs = [signs_of(label, diversity=value + 0.6) for label, value in enumerate(DIVERSITIES)]
    assert not any(one.is_poisoned for one in weigh(signs, LEVEL))


def test_the_order_of_the_classes_does_not_matter():
    signs = ten_classes(diversity=0.7, converted=0.3)
    forwards, backwards = weigh(signs, LEVEL), weigh(signs[::-1], LEVEL)[::-1]
    for one, same in zip(forwards, backwards, strict=True):
        assert one.label == same.label
        assert one.p_value == pytest.approx(same.p_value)


def test_the_p_value_allows_for_the_number_of_signs():
    one = weigh(ten_classes(diversity=0.6, converted=0.2), LEVEL)[0]
    foreign = np.array([one.diversity_p, one.contrast_p])
    assert one.foreign_p == pytest.approx(2 / (1 / foreign).sum())
    told = np.array([one.foreign_p, one.transplant_p, one.together_p])
    assert one.p_value == pytest.approx(3 / (1 / told).sum())


def test_a_part_that_is_far_more_diverse_than_its_rest_is_foreign():
    """Of its diversity alone it is not: another class is as diverse, rest and all."""
    other = signs_of(1, diversity=0.65, rest_diversity=0.6)
    signs = ten_classes(diversity=0.65, rest_diversity=0.1)
    first, *others = weigh([signs[0], other, *signs[2:]], LEVEL)
    assert first.is_poisoned and first.is_of_other_classes
    assert not any(one.is_poisoned for one in others)
    # A rest of no diversity at all is not enough.
    little = weigh(ten_classes(diversity=0.35, rest_diversity=0.0), LEVEL)[0]
    assert not little.is_poisoned


def test_the_contrast_of_a_whole_class_is_nothing_and_untold_where_nothing_is_told():
    assert signs_of(diversity=0.5, rest_diversity=0.2).contrast == pytest.approx(0.3)
    assert signs_of(diversity=0.5, rest_diversity=NAN).contrast == 0.0
    assert np.isnan(signs_of(diversity=NAN, rest_diversity=NAN).contrast)


def test_a_diversity_of_few_rows_is_uncertain():
    assert weigh(ten_classes(diversity=0.7, n_suspect=200), LEVEL)[0].is_poisoned
    assert not weigh(ten_classes(diversity=0.7, n_suspect=8), LEVEL)[0].is_poisoned
    # Below its own error it says nothing, beside a rest that is more diverse least of all.
    nothing = weigh(ten_classes(diversity=0.0, rest_diversity=0.3, n_suspect=8), LEVEL)[0]
    assert nothing.contrast_p > 0.3


def test_signs_beyond_the_smallest_float_are_no_error():
    one = weigh(ten_classes(converted=1.0, diversity=1e60), LEVEL)[0]
    assert 0 < one.p_value < 1e-15


@pytest.mark.parametrize("rest", [NAN, 0.95], ids=["too few rows", "as diverse"])
def test_a_part_that_is_the_whole_class_is_not_foreign_to_it(rest):
    """A class that looks like no other one is diverse as it is."""
    one = weigh(ten_classes(diversity=0.95, rest_diversity=rest), LEVEL)[0]
    assert one.diversity_p == 1.0
    assert not one.is_poisoned


def test_two_moderate_signs_are_a_strong_one_together():
    for one_of_them in ({"diversity": 0.47}, {"converted": 0.2}):
        assert not weigh(ten_classes(**one_of_them), LEVEL)[0].is_poisoned
    assert weigh(ten_classes(diversity=0.47, converted=0.2), LEVEL)[0].is_poisoned


def test_the_level_is_what_the_p_value_has_to_be_below():
    signs = ten_classes(diversity=0.6)
    p_value = weigh(signs, LEVEL)[0].p_value
    assert weigh(signs, 1.01 * p_value)[0].is_poisoned
    assert not weigh(signs, p_value)[0].is_poisoned


def test_two_parts_that_both_look_like_no_other_class_speak_against_a_transplant():
    """Light and dark images of one thing: a transplant alone would speak against the class."""
    assert not weigh(ten_classes(converted=0.9, split_diversity=0.05), LEVEL)[0].is_poisoned


@pytest.mark.parametrize("converted", [0.0, -0.2])
def test_no_transplant_is_no_sign(converted):
    assert weigh(ten_classes(converted=converted), LEVEL)[0].transplant_p == 1.0


def test_where_no_diversity_could_be_told_the_transplant_speaks_alone():
    untold = {"diversity": NAN, "rest_diversity": NAN, "split_diversity": NAN}
    signs = [signs_of(label, **untold) for label in range(1, 6)]
    first, *others = weigh([signs_of(0, converted=0.9, **untold), *signs], LEVEL)
    assert first.is_poisoned
    assert first.diversity_p == 1.0
    assert not any(one.is_poisoned for one in others)


# ------------------------------------------------------------------------ which rows are suspect


def suspects(**of_first):
    one = weigh(ten_classes(**of_first), LEVEL)[0]
    assert one.is_poisoned
    return one.rows[one.probabilities > 0.5].tolist(), one.is_of_other_classes


def test_of_a_diverse_class_the_foreign_part_is_suspect():
    assert suspects(diversity=0.95) == ([8, 9], True)
    assert suspects(diversity=0.95, converted=0.9) == ([8, 9], True)


@pytest.mark.parametrize("diversity", [0.3, NAN])
def test_of_a_class_that_is_told_by_its_transplant_the_part_that_was_put_on_is_suspect(diversity):
    told = {"converted": 0.9, "diversity": diversity}
    assert suspects(**told) == ([0, 1], False)
    assert suspects(**told, of_second=True) == (list(range(2, 10)), False)
