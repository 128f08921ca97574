"""Triggers of our own: within the range of the pixels, on most rows, the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from antibackdoor.detection import _disturbance
from antibackdoor.detection._disturbance import Disturbance
from antibackdoor.training import Samples
from antibackdoor.utils import resolve_layout

CPU = torch.device("cpu")


def disturbed(images, low=0.0, high=255.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Disturbance((low, high), (low, high))(torch.as_tensor(images), generator).numpy()


@pytest.mark.parametrize(
    "shape", [(200, 16, 16, 3), (200, 8, 8, 1), (200, 5, 9, 1), (200, 1, 1, 3)]
)
def test_most_rows_are_changed_and_stay_in_range(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    told = disturbed(images)
    assert told.shape == shape
    assert told.dtype == np.uint8
    changed = (told != images).any(axis=(1, 2, 3)).mean()
    assert 0.4 < changed < 0.95
    assert not np.array_equal(told, disturbed(images, seed=1))
    np.testing.assert_array_equal(told, disturbed(images))


@pytest.mark.parametrize("kind", _disturbance._KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_changes_an_image(kind):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((50, 3, 12, 16), generator=generator)
    told = kind(images, generator)
    assert told.shape == images.shape
    assert ((told - images).abs().amax(dim=(1, 2, 3)) > 0.05).float().mean() > 0.9


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_stay_between_the_lowest_and_the_highest(dtype):
    images = np.random.default_rng(0).uniform(-3, 5, (100, 8, 8, 3)).astype(dtype)
    told = disturbed(images, low=-3.0, high=5.0)
    assert told.dtype == dtype
    assert told.min() >= -3 - 1e-5 and told.max() <= 5 + 1e-5
    assert (told == images).all(axis=(1, 2, 3)).any()


def test_what_an_image_shows_stays_in_it():
    images = np.zeros((200, 16, 16, 1), np.uint8)
    images[:, 4:12, 4:12] = 255
    told = disturbed(images).astype(float)
    inside, outside = told[:, 6:10, 6:10].mean(axis=(1, 2, 3)), told[:, 0].mean(axis=(1, 2))
    assert np.mean(inside > outside) > 0.95


def test_a_few_values_far_outside_do_not_make_the_triggers_stronger():
    """Pixels that are standardised one by one: those of a patch are far from all others."""
    images = np.random.default_rng(0).normal(size=(200, 8, 8, 1)).astype(np.float32)
    images[0, 0, 0] = 40
    samples = Samples(images, resolve_layout((8, 8, 1), None, "channels_last"), CPU, torch.float32)
    disturb = Disturbance(samples.usual_range(), samples.value_range)
    told = disturb(torch.as_tensor(images), torch.Generator().manual_seed(0)).numpy()
    assert 0.1 < np.abs(told - images)[1:].mean() < 1
    assert told.max() <= 40


@pytest.mark.parametrize(
    ("images", "wanted"),
    [
        (np.tile(np.uint8([0, 255]), 32), (0, 255)),
        (np.tile(np.uint8([0, 16]), 32), (0, 32)),
        (np.tile(np.float32([0, 1]), 32), (0, 1)),
        (np.full(64, 3, np.uint8), (0, 255)),
    ],
    ids=["photograph", "few grey levels", "floats", "constant"],
)
def test_the_usual_range_is_three_deviations_wide_at_most(images, wanted):
    images = images.reshape(1, 8, 8, 1)
    samples = Samples(images, resolve_layout((8, 8, 1), None, "channels_last"), CPU, torch.float32)
    np.testing.assert_allclose(samples.usual_range(), wanted, atol=1e-4)
