"""DFST: style and content by hand, plain recolouring, and what the generator learns."""

import numpy as np
import pytest
import torch

from antibackdoor.attacks import DFST
from antibackdoor.attacks._dfst import content_loss, style_loss, without_style

QUICK = {"surrogate": "small-cnn", "surrogate_epochs": 2}


@pytest.fixture(scope="module")
def data():
    """Images whose colour says their class, 12 x 12 x 3."""
    rng = np.random.default_rng(0)
    y = np.arange(150) % 3
    X = rng.integers(0, 120, (150, 12, 12, 3))
    X[np.arange(150), :, :, y] += 100
    return X.astype(np.uint8), y


@pytest.fixture(scope="module")
def fitted(data):
    return DFST(**QUICK).fit(*data)


def test_style_loss_by_hand():
    images = torch.tensor([[[[0.2, 0.6]]]])  # mean 0.4, deviation 0.2
    mean, spread = torch.tensor([[[0.5]]]), torch.tensor([[[0.4]]])
    assert float(style_loss(images, mean, spread)) == pytest.approx(0.1**2 + 0.2**2, rel=1e-4)
    assert float(style_loss(images, mean - 0.1, spread - 0.2)) == pytest.approx(0, abs=1e-8)


def test_content_does_not_mind_light_and_contrast():
    images = torch.rand(3, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    assert float(content_loss(images, 0.3 * images + 0.5)) == pytest.approx(0, abs=1e-4)
    assert float(content_loss(images, images.flip(3))) > 0.5
    assert (without_style(torch.full((1, 1, 2, 2), 0.7)) == 0).all()


def test_recolouring_gives_the_style(data, fitted):
    X = data[0]
    style = [[120, 20], [100, 10], [90, 5]]
    plain = DFST(**QUICK, style=style).fit(*data).transform_cover(X)
    np.testing.assert_allclose(plain.mean(axis=(1, 2)), np.tile([120, 100, 90], (150, 1)), atol=1)
    np.testing.assert_allclose(plain.std(axis=(1, 2)), np.tile([20, 10, 5], (150, 1)), atol=1)


def test_recolouring_by_hand_with_floats():
    X = np.array([[[[0.0, 1.0]] * 8] * 8]).repeat(4, axis=0).reshape(4, 8, 16)
    attack = DFST(**QUICK, style=[[51, 25.5]], value_range=(0, 2)).fit(X, [0, 0, 1, 1])
    # 0 and 1 have mean and deviation 0.5; the range is 2 wide: mean 0.4, deviation 0.2.
    np.testing.assert_allclose(attack.transform_cover(X), np.where(X == 0, 0.2, 0.6), atol=1e-4)


def test_default_style():
    X, y = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)), np.arange(40) % 2
    warm = DFST(**QUICK).fit(X.astype(np.uint8), y)
    np.testing.assert_array_equal(warm.style_, [[180, 45], [130, 45], [80, 45]])
    grey = DFST(**QUICK).fit(X[..., 0].astype(np.uint8), y)
    np.testing.assert_array_equal(grey.style_, [[180, 45]])


def test_generator_comes_near_the_style_and_keeps_the_content(data):
    X, y = data
    attack = DFST(surrogate="small-cnn", surrogate_epochs=15).fit(X, y)
    inputs = torch.from_numpy(X).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        styled = attack._restyle(inputs)
    statistics = attack._style_as_inputs(inputs)
    assert style_loss(styled, *statistics) < 0.3 * style_loss(inputs, *statistics)
    assert content_loss(inputs, styled) < content_loss(inputs, styled.roll(1, 0))
    objective = [row["objective"] for row in attack.history_]
    assert objective[-1] < 0.7 * objective[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("style", [[50, 20], [60, 20], [90, 20]]),
        ("style_weight", 0),
        ("content_weight", 0),
        ("detox_ratio", 0),
    ],
)
def test_every_parameter_has_an_effect(data, fitted, name, value):
    other = DFST(**QUICK, **{name: value}).fit(*data)
    assert not np.array_equal(other.transform(data[0]), fitted.transform(data[0]))


def test_cover_rows_are_asked_for_by_detox_ratio(data, fitted):
    assert DFST(detox_ratio=2).cover_ratio == 2
    X = data[0][:5]
    np.testing.assert_array_equal(fitted.transform_cover(X)[:1], fitted.transform_cover(X[:1]))
    assert not np.array_equal(fitted.transform_cover(X), fitted.transform(X))


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("style", [[1, 2]], r"style has shape \(1, 2\); wanted \(3, 2\)"),
        ("style", [1, 2, 3], "style"),
        ("style", [[1, 2], [1, 2], [1, 256]], "between 0 and 255"),
        ("style_weight", -1, "style_weight"),
        ("content_weight", -1, "content_weight"),
        ("detox_ratio", -1, "detox_ratio"),
    ],
)
def test_bad_parameters(data, name, value, match):
    with pytest.raises(ValueError, match=match):
        DFST(**{name: value}).fit(*data)
