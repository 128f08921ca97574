"""LowFrequency: a drawn sum of the lowest cosines."""

import numpy as np
import pytest
from scipy.fft import dctn
from sklearn.base import clone

from antibackdoor.attacks import LowFrequency, make_attack
from antibackdoor.datasets import make_poisoned

GREY = np.full((2, 16, 12, 3), 128, dtype=np.uint8)


def test_pattern_is_a_sum_of_cosines_by_hand():
    attack = LowFrequency(n_frequencies=2, delta=51, value_range=(0, 1)).fit(np.zeros((1, 4, 5)))
    drawn = np.random.RandomState(0).standard_normal((2, 2))
    rows, columns = np.arange(4)[:, np.newaxis] + 0.5, np.arange(5) + 0.5
    down, across = np.cos(np.pi * rows / 4), np.cos(np.pi * columns / 5)
    # The constant's basis function is smaller by the square root of 2, along each axis.
    waves = (
        drawn[0, 0] / 2
        + (drawn[1, 0] * down + drawn[0, 1] * across) / np.sqrt(2)
        + drawn[1, 1] * down * across
    )
    np.testing.assert_allclose(attack.pattern_, 0.2 * waves / np.abs(waves).max(), atol=1e-12)


def test_only_the_lowest_frequencies_are_there():
    pattern = LowFrequency(n_frequencies=3).fit(GREY).pattern_
    spectrum = dctn(pattern, axes=(0, 1), norm="ortho")
    assert (np.abs(spectrum[:3, :3]) > 1e-6).all()
    spectrum[:3, :3] = 0
    np.testing.assert_allclose(spectrum, 0, atol=1e-10)


def test_delta_is_the_largest_change_in_every_channel():
    attack = LowFrequency(delta=20).fit(GREY)
    np.testing.assert_allclose(np.abs(attack.pattern_).max(axis=(0, 1)), 20)
    change = attack.transform(GREY).astype(int) - GREY
    np.testing.assert_array_equal(np.abs(change).max(axis=(0, 1, 2)), [20, 20, 20])
    wide = LowFrequency(delta=20, value_range=(-1, 1)).fit(np.zeros((1, 8, 8)))
    assert np.abs(wide.pattern_).max() == pytest.approx(20 / 255 * 2)


def test_saturates_and_does_not_wrap():
    X = np.array([np.full((8, 8), 250), np.full((8, 8), 5)], dtype=np.uint8)
    attack = LowFrequency(delta=40).fit(X)
    expected = np.clip(np.rint(X + attack.pattern_), 0, 255)
    np.testing.assert_array_equal(attack.transform(X), expected)
    assert (expected[0].max(), expected[1].min()) == (255, 0)


def test_small_images_have_fewer_cosines():
    row = LowFrequency(n_frequencies=4).fit(np.zeros((1, 1, 3), np.uint8))
    assert np.abs(row.pattern_).max() == pytest.approx(30)
    pixel = LowFrequency().fit(np.zeros((1, 1), np.uint8))
    assert np.abs(pixel.pattern_).item() == pytest.approx(30)


def test_every_parameter_has_an_effect():
    plain = LowFrequency().fit_transform(GREY)
    for changed in ({"delta": 20}, {"n_frequencies": 3}, {"random_state": 1}):
        assert not np.array_equal(LowFrequency(**changed).fit_transform(GREY), plain), changed


def test_poison_is_dirty_label():
    X = np.random.default_rng(0).integers(0, 256, (30, 8, 8)).astype(np.uint8)
    y = np.arange(30) % 3
    attack = make_attack("lf", target_label=1)
    X_bad, y_bad, poison = make_poisoned(X, y, attack=attack, random_state=0)
    assert (y[poison] != 1).all()
    assert (y_bad[poison] == 1).all()
    np.testing.assert_array_equal(X_bad[poison], clone(attack).fit(X).transform(X[poison]))


@pytest.mark.parametrize(
    "params", [{"delta": 0}, {"delta": 256}, {"n_frequencies": 0}, {"random_state": "x"}]
)
def test_bad_parameters(params):
    (name,) = params
    with pytest.raises(ValueError, match=f"'{name}' parameter of LowFrequency"):
        LowFrequency(**params).fit(GREY)
