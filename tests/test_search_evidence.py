"""What speaks for poison in one class, by hand: p-values, sides, and which rows are doubtful."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from antibackdoor.detection._evidence import ClassEvidence
from antibackdoor.detection._low_margin import MarginOrder
from antibackdoor.detection._parts import Parts

ROWS = np.arange(20)


def is_first(n_first):
    return np.arange(20, 0, -1) <= n_first


def evidence_of(diversities=None, excesses=None, *, n_first=10, **changes):
    """Twenty rows, the last of which are the first part, in the order of their margins."""
    parts = Parts(0, ROWS, 1.0 * is_first(n_first), overlap=0.1, contrast=0.5)
    settings = {
        "transplant": 0.0,
        "level": 0.05,
        "order": MarginOrder(ROWS, 0.0),
        "diversities": diversities,
        "excesses": excesses,
    }
    return ClassEvidence(parts, **{**settings, **changes})


@pytest.mark.parametrize(
    ("diversities", "excesses", "flagged", "doubtful"),
    [
        # 0.6 is four deviations above 0.2, and half way to it is 0.4.
        ((0.5, 0.5), (0.6, 0.41, 0.39, 0.41, 0.2), range(4), range(4, 6)),
        # Doubtful is one tenth more, however many are flagged.
        ((0.5, 0.5), (0.6, 0.5, 0.5, 0.5, 0.5), range(10), range(10, 12)),
        # A part that is significant by itself goes before, one that is not does not.
        ((0.5, 0.9), (0.6, 0.2, 0.2, 0.2, 0.2), range(10), ()),
        ((0.9, 0.5), (0.6, 0.2, 0.2, 0.2, 0.2), range(10, 20), ()),
        ((0.5, 0.73), (0.6, 0.2, 0.2, 0.2, 0.2), range(2), range(2, 4)),
    ],
    ids=["two tenths", "half", "second part", "first part", "a part near significance"],
)
def test_low_margin_rows_or_a_part_are_suspect(diversities, excesses, flagged, doubtful):
    evidence = evidence_of(diversities, excesses)
    likely = evidence.probabilities > 0.5
    assert np.flatnonzero(likely).tolist() == list(flagged)
    assert np.flatnonzero(evidence.doubtful & ~likely).tolist() == list(doubtful)
    assert evidence.is_poisoned and evidence.is_of_other_classes


def test_low_margin_rows_have_a_fifth_of_the_false_alarms():
    tail = norm.sf(3)
    # Three deviations from the mean of natural low-margin rows, and of natural parts.
    assert evidence_of((0.5, 0.5), (0.5,) * 5).p_value == pytest.approx(tail / 0.2)
    assert evidence_of((0.5, 0.86), (0.2,) * 5).p_value == pytest.approx(4 * tail / 0.8)
    assert evidence_of((0.5, 0.86), None).p_value == pytest.approx(4 * tail / 0.8)


@pytest.mark.parametrize("diversities", [None, (0.5, 0.5), (0.4, 0.1)])
def test_a_transplant_has_an_exponential_tail(diversities):
    # Of a mean of 0.06, twice the probability of a rise of 0.3, at four fifths of the alarms.
    evidence = evidence_of(diversities, transplant=0.3)
    assert evidence.transplant_p == pytest.approx(np.exp(-0.3 / 0.06))
    assert evidence.p_value == pytest.approx(2 * np.exp(-0.3 / 0.06) / 0.8)


def test_a_transplant_is_contradicted_by_two_parts_that_look_like_no_other_class():
    """Light and dark images of one thing: a transplant alone would speak against the class."""
    evidence = evidence_of((0.2, 0.39), transplant=0.95)
    assert evidence.transplant_p < 1e-6
    assert evidence.p_value == 1.0
    assert not evidence.is_poisoned


@pytest.mark.parametrize("transplant", [0.0, -0.2])
def test_no_transplant_is_no_sign(transplant):
    assert evidence_of(transplant=transplant).p_value == 1.0


def test_the_level_is_what_the_p_value_has_to_be_below():
    p_value = evidence_of(transplant=0.3).p_value
    assert evidence_of(transplant=0.3, level=1.01 * p_value).is_poisoned
    assert not evidence_of(transplant=0.3, level=p_value).is_poisoned


@pytest.mark.parametrize(
    ("diversities", "of_others"),
    [(None, False), ((0.5, 0.5), False), ((0.5, 0.73), False), ((0.74, 0.5), True)],
)
def test_poison_is_of_other_classes_where_its_part_is_diverse(diversities, of_others):
    evidence = evidence_of(diversities, transplant=0.9)
    assert evidence.is_poisoned
    assert evidence.is_of_other_classes == of_others


@pytest.mark.parametrize(
    ("diversities", "n_first", "suspect"),
    [
        # Told by its diversity, whatever the sizes.
        ((0.5, 0.9), 4, "second"),
        ((0.9, 0.5), 16, "first"),
        # Not told: the part with less than a quarter of the class.
        ((0.5, 0.6), 4, "first"),
        ((0.6, 0.5), 16, "second"),
        (None, 4, "first"),
        (None, 16, "second"),
        # Nor by the sizes: the more diverse one, or that of the lower losses.
        ((0.5, 0.6), 8, "second"),
        ((0.6, 0.5), 12, "first"),
        (None, 8, "first"),
        (None, 12, "first"),
    ],
)
def test_which_part_is_the_suspect_one(diversities, n_first, suspect):
    evidence = evidence_of(diversities, transplant=0.9, n_first=n_first)
    wanted = is_first(n_first)
    if suspect == "second":
        wanted = ~wanted
    np.testing.assert_array_equal(evidence.probabilities, 1.0 * wanted)


def in_doubt(margins):
    """Four rows of poison, a row that the split leaves open, and fifteen natural ones."""
    probabilities = np.repeat([1.0, 0.3, 0.0], [4, 1, 15])
    parts = Parts(0, ROWS, probabilities, overlap=0.1, contrast=0.9)
    return ClassEvidence(parts, 0.9, 0.05, margins=margins)


def test_rows_that_the_split_leaves_open_are_doubtful():
    assert np.flatnonzero(in_doubt(None).doubtful).tolist() == list(range(5))


def test_rows_that_a_probe_is_as_sure_of_as_of_the_poison_are_doubtful():
    margins = np.repeat([6.0, -1.0, 5.0, 7.0, 0.0], [4, 1, 2, 1, 12])
    # Of row 7 it is surer than of the poison; of rows 5 and 6 it is not.
    assert np.flatnonzero(in_doubt(margins).doubtful).tolist() == [0, 1, 2, 3, 4, 7]


def test_a_probe_that_is_as_sure_of_natural_rows_makes_none_doubtful():
    margins = np.repeat([3.0, 9.0, 9.0, 0.0], [4, 1, 7, 8])
    assert np.flatnonzero(in_doubt(margins).doubtful).tolist() == list(range(5))


def test_never_more_than_half_of_the_natural_rows_are_doubtful():
    # The probe is unsure of one row in ten of the poison, and of no natural row.
    margins = np.concatenate([[9.0, 9.0, 9.0, -9.0], np.linspace(0, 5, 16)])
    n_more = np.count_nonzero(in_doubt(margins).doubtful[5:])
    assert n_more <= 8
