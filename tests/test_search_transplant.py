"""The transplant by hand, and rows with a shift, which it is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from search_inputs import as_samples, linear_network

from antibackdoor.detection._transplant import transplant


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
