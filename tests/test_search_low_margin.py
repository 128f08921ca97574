"""The order of the rows of a class by their margin, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from search_inputs import as_samples, linear_network

from antibackdoor.detection._low_margin import has_tenths, order_by_margin


def test_rows_are_ordered_by_the_odds_of_their_label():
    """A class of 108 rows: of the lowest margin first, every other is taken for 1 or 2."""
    given = np.linspace(-4, 4, 108)
    shuffled = np.random.default_rng(0).permutation(108)
    rest = np.tile([[9.0, -9.0], [-9.0, 9.0]], (54, 1))
    X = np.vstack([np.column_stack([given + 9, rest])[shuffled], np.eye(3)[[1] * 99]])
    labels = np.append(np.zeros(108, dtype=int), np.ones(99, dtype=int))
    network = linear_network(np.eye(3))
    orders = order_by_margin(network, as_samples(X.astype(np.float32)), labels)
    assert list(orders) == [0]  # the tenths of 99 rows are too few to ask about
    order = orders[0]
    np.testing.assert_array_equal(shuffled[order.rows], np.arange(108))
    tenths = [shuffled[rows].tolist() for rows in order.tenths]
    assert tenths == [list(range(start, start + 10)) for start in (0, 10, 20, 30, 40)]
    np.testing.assert_array_equal(shuffled[order.better_half], np.arange(54, 108))
    # Of the first ten five are surely a 1 and five a 2.
    assert order.first_diversity == pytest.approx(np.log(2))


@pytest.mark.parametrize(("n_rows", "enough"), [(20, False), (99, False), (100, True), (999, True)])
def test_a_class_has_tenths_from_a_hundred_rows_on(n_rows, enough):
    assert has_tenths(np.arange(n_rows)) == enough
