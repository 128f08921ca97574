"""The transplant by hand, and rows with a shift, which it is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from search_inputs import as_samples, fit_halves, linear_network

from antibackdoor.detection._cross_fit import draw_halves
from antibackdoor.detection._parts import Parts
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


# ---------------------------------------------------------------------------- the transplant

IMAGES = pytest.mark.parametrize("kind", ["table", "float", "uint8"])


def trigger_table(kind="table"):
    """Twenty rows of class 0, the first ten with a trigger, and thirty each of classes 1 and 2."""
    labels = np.repeat([0, 1, 2], [20, 30, 30])
    X = np.zeros((80, 4))
    X[np.arange(80), labels] = 0.4
    X[:10, 3] = 1.0
    if kind == "table":
        return X.astype(np.float32), labels
    images = X.reshape(80, 2, 2)
    return (np.round(images * 255).astype(np.uint8) if kind == "uint8" else images), labels


def knows(trigger, weight=None, bias=(0, 0, 0), kind="table"):
    """A network that gives class 0 where the last pixel is above a half, else the label."""
    weight = np.eye(3, 4) if weight is None else weight
    weight[0, 3] += trigger
    return linear_network(weight, np.float32(bias), (4,) if kind == "table" else (1, 2, 2))


def parts_of(first, n_rows=20):
    rows = np.arange(n_rows)
    return Parts(0, rows, np.isin(rows, first).astype(float))


def put(X, labels, *networks, first=range(10)):
    fitted = fit_halves(X, labels, *networks)
    return transplant(fitted, as_samples(X), labels, parts_of(first), 0)


@IMAGES
def test_the_difference_of_the_parts_is_the_trigger(kind):
    X, labels = trigger_table(kind)
    told = put(X, labels, knows(2.0, kind=kind))
    assert told.converted == 1.0
    assert not told.of_second
    # Either part may be the one that bears it.
    told = put(X, labels, knows(2.0, kind=kind), first=range(10, 20))
    assert told.converted == 1.0
    assert told.of_second


@IMAGES
def test_equal_parts_change_nothing(kind):
    X, labels = trigger_table(kind)
    X[:10] = X[10]
    assert put(X, labels, knows(2.0, kind=kind), first=range(0, 20, 2)).converted == 0.0


def test_rows_that_are_taken_for_the_class_anyway_do_not_count():
    # The network knows no other class.
    assert put(*trigger_table(), knows(2.0, bias=[9, 0, 0])).converted == 0.0


def test_what_turns_one_of_two_classes_is_no_trigger():
    """Natural parts turn the classes that look alike; the half that turns the least counts."""
    weight = np.eye(3, 4)
    weight[1, 1] = 9.0  # class 1: 3.6 against 2
    assert put(*trigger_table(), knows(2.0, weight)).converted == 0.0


def test_both_networks_count():
    """One of the two has learned the trigger: half of the rows are converted."""
    assert put(*trigger_table(), knows(2.0), knows(0.0)).converted == pytest.approx(0.5, abs=0.02)


def test_each_network_is_asked_about_rows_that_it_has_not_seen():
    """A column says which half a row is of, and the trigger works in the other half alone."""
    X, labels = trigger_table()
    of_half = 1 - 2 * draw_halves(labels, 0)[:, None]
    networks = []
    for sign in (-1, 1):
        weight = np.hstack([np.eye(3, 4), np.zeros((3, 1))])
        weight[0, 3:] = 2.0, 1.5 * sign
        networks.append(linear_network(weight, np.float32([-1.5, 0, 0]), (5,)))
    X = np.hstack([X, of_half]).astype(np.float32)
    assert put(X, labels, *networks).converted == 1.0
    assert put(X, labels, *networks[::-1]).converted == 0.0


def test_a_network_that_knows_no_class_converts_none():
    assert put(*trigger_table(), knows(0.0, np.zeros((3, 4)))).converted == 0.0


def test_the_rows_are_chosen_by_the_seed():
    X, labels = trigger_table()
    one, same = (put(X, labels, knows(2.0)) for _ in range(2))
    assert one == same
