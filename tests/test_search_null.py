"""p-values that the other classes of the same data give, by simulation."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from antibackdoor.detection._null import exponential_tail, normal_tail

normal = partial(normal_tail, spread=0.1, weight=6)
exponential = partial(exponential_tail, mean=0.1, weight=6)
TAILS = pytest.mark.parametrize("tail", [normal, exponential])


def natural(tail, n_classes, factor, n_draws=1000):
    """Values of classes without poison, as large as expected or by a factor larger."""
    rng = np.random.default_rng(0)
    shape = (n_draws, n_classes)
    if tail is normal:
        return rng.normal(0.3, 0.1 * factor, shape)
    return rng.exponential(0.1 * factor, shape)


def p_values(tail, n_classes, factor):
    return np.concatenate([tail(values) for values in natural(tail, n_classes, factor)])


@TAILS
@pytest.mark.parametrize("n_classes", [4, 7, 10, 50])
def test_natural_classes_are_no_more_often_below_a_level_than_it_says(tail, n_classes):
    p = p_values(tail, n_classes, 1.0)
    assert p.min() >= 0 and p.max() <= 1
    # Levels such as a search has for each of its signs, of one class.
    for level in (0.01, 0.002):
        assert (p < level).mean() < 2 * level


@TAILS
def test_of_many_classes_the_p_values_are_uniform(tail):
    for factor in (0.5, 1.0, 2.0):
        p = p_values(tail, 200, factor)
        for level in (0.1, 0.05):
            assert (p < level).mean() == pytest.approx(level, rel=0.35)


@TAILS
def test_data_that_is_quieter_than_expected_has_larger_p_values(tail):
    p = p_values(tail, 10, 0.3)
    assert (p < 0.05).mean() < 0.01


@TAILS
def test_the_classes_at_hand_correct_what_is_expected(tail):
    """Of signs twice as large one in ten would be below this level, by what is expected alone."""
    assert (p_values(tail, 10, 2.0) < 0.01).mean() < 0.08
    assert (p_values(tail, 100, 2.0) < 0.01).mean() < 0.02


@TAILS
def test_a_larger_value_has_a_smaller_p_value(tail):
    values = natural(tail, 10, 1.0)[0]
    p = tail(values)
    np.testing.assert_array_equal(np.argsort(-values), np.argsort(p, kind="stable"))
    raised = values.copy()
    raised[np.argmax(values)] += 1
    assert tail(raised).min() < 0.1 * p.min()


@pytest.mark.parametrize("n_poisoned", [1, 3, 5])
def test_poison_in_half_of_the_classes_does_not_hide_itself(n_poisoned):
    """Poison only adds to a value: the smaller half of the classes stays natural."""
    draws = natural(normal, 10, 0.5, n_draws=200)
    draws[:, :n_poisoned] += 0.8
    p = np.array([normal(values) for values in draws])
    assert np.median(p[:, :n_poisoned]) < 0.002
    assert (p[:, n_poisoned:] < 0.01).mean() < 0.01


def test_of_a_hundred_classes_the_tail_is_no_better_known_than_of_ten():
    """Four deviations: 3e-5 by a normal distribution."""
    values = natural(normal, 101, 0.5)[0]
    values[0] = values[1:].mean() + 4 * values[1:].std()
    assert 1e-4 < normal(values)[0] < 1e-2


def test_two_natural_classes_that_stand_out_vouch_for_one_another():
    """Drawn letters: A and T look like no other letter. One of them alone is a stronger sign."""
    A, T = 0, 11
    values = np.array([0.53, 0.24, 0.27, 0.29, 0.27, 0.27, 0.27, 0.41, 0.25, 0.31, 0.25, 0.52])
    p = normal(values)
    assert p[[A, T]].min() > 0.003
    assert normal(values[:T])[A] < 0.5 * p[A]


@TAILS
def test_order_of_the_classes_does_not_matter(tail):
    values = natural(tail, 10, 1.0)[0]
    shuffled = np.random.default_rng(1).permutation(10)
    np.testing.assert_allclose(tail(values[shuffled]), tail(values)[shuffled], rtol=1e-9)


@TAILS
def test_classes_that_were_not_looked_at_say_nothing(tail):
    values = natural(tail, 10, 1.0)[0]
    gaps = np.insert(values, [0, 4, 10], np.nan)
    p = tail(gaps)
    assert (p[np.isnan(gaps)] == 1).all()
    np.testing.assert_allclose(p[np.isfinite(gaps)], tail(values))
    np.testing.assert_array_equal(tail(np.full(3, np.nan)), 1.0)


@TAILS
def test_one_class_alone_and_equal_classes_have_a_p_value(tail):
    for values in (np.array([0.1]), np.full(6, 0.1), np.zeros(6)):
        p = tail(values)
        assert (p > 0.05).all() and (p <= 1).all()


def test_a_transplant_that_turns_nothing_is_no_sign():
    np.testing.assert_array_equal(exponential(np.array([0.0, -0.2, 0.0, 0.0])), 1.0)


def test_a_shift_of_all_values_changes_no_p_value_of_a_normal_tail():
    values = natural(normal, 10, 1.0)[0]
    np.testing.assert_allclose(normal(values + 0.4), normal(values))
