"""p-values that the other classes of the same data give, by simulation."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from antibackdoor.detection._null import exponential_tail

tail = partial(exponential_tail, mean=0.1, weight=6)


def natural(n_classes, factor, n_draws=1000):
    """Values of classes without poison, as large as expected or by a factor larger."""
    return np.random.default_rng(0).exponential(0.1 * factor, (n_draws, n_classes))


def p_values(n_classes, factor):
    return np.concatenate([tail(values) for values in natural(n_classes, factor)])


@pytest.mark.parametrize("n_classes", [4, 7, 10, 50])
def test_natural_classes_are_no_more_often_below_a_level_than_it_says(n_classes):
    p = p_values(n_classes, 1.0)
    assert p.min() >= 0 and p.max() <= 1
    # Levels such as a search has for each of its signs, of one class.
    for level in (0.01, 0.002):
        assert (p < level).mean() < 2 * level


def test_of_many_classes_the_p_values_are_uniform():
    for factor in (0.5, 1.0, 2.0):
        p = p_values(200, factor)
        for level in (0.1, 0.05):
            assert (p < level).mean() == pytest.approx(level, rel=0.35)


def test_data_that_is_quieter_than_expected_has_larger_p_values():
    p = p_values(10, 0.3)
    assert (p < 0.05).mean() < 0.01


def test_the_classes_at_hand_correct_what_is_expected():
    """Of signs twice as large one in ten would be below this level, by what is expected alone."""
    assert (p_values(10, 2.0) < 0.01).mean() < 0.08
    assert (p_values(100, 2.0) < 0.01).mean() < 0.02


def test_a_larger_value_has_a_smaller_p_value():
    values = natural(10, 1.0)[0]
    p = tail(values)
    np.testing.assert_array_equal(np.argsort(-values), np.argsort(p, kind="stable"))
    raised = values.copy()
    raised[np.argmax(values)] += 1
    assert tail(raised).min() < 0.1 * p.min()


@pytest.mark.parametrize("n_poisoned", [1, 3, 5])
def test_poison_in_half_of_the_classes_does_not_hide_itself(n_poisoned):
    draws = natural(10, 1.0, n_draws=200)
    draws[:, :n_poisoned] += 2
    p = np.array([tail(values, most=3) for values in draws])
    assert np.median(p[:, :n_poisoned]) < 0.002
    assert (p[:, n_poisoned:] < 0.01).mean() < 0.01


def test_order_of_the_classes_does_not_matter():
    values = natural(10, 1.0)[0]
    shuffled = np.random.default_rng(1).permutation(10)
    np.testing.assert_allclose(tail(values[shuffled]), tail(values)[shuffled], rtol=1e-9)


def test_classes_that_were_not_looked_at_say_nothing():
    values = natural(10, 1.0)[0]
    gaps = np.insert(values, [0, 4, 10], np.nan)
    p = tail(gaps)
    assert (p[np.isnan(gaps)] == 1).all()
    np.testing.assert_allclose(p[np.isfinite(gaps)], tail(values))
    np.testing.assert_array_equal(tail(np.full(3, np.nan)), 1.0)


def test_one_class_alone_and_equal_classes_have_a_p_value():
    for values in (np.array([0.1]), np.full(6, 0.1), np.zeros(6)):
        p = tail(values)
        assert (p > 0.05).all() and (p <= 1).all()


def test_nothing_is_no_sign():
    np.testing.assert_array_equal(tail(np.array([0.0, -0.2, 0.0, 0.0])), 1.0)
