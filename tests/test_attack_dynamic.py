"""Dynamic: its two losses by hand, its mask, its pattern and its cross rows."""

import numpy as np
import pytest
import torch

from antibackdoor.attacks import Dynamic
from antibackdoor.attacks._dynamic import _mask, _put, diversity_loss, excess

QUICK = {"surrogate": "small-cnn", "surrogate_epochs": 2, "generator_epochs": 2}


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    return X[:200], y[:200]


@pytest.fixture(scope="module")
def fitted(data):
    return Dynamic(**QUICK).fit(*data)


def test_diversity_is_the_ratio_of_the_distances():
    inputs = torch.zeros(2, 1, 2, 2)
    inputs[1] = 0.6  # a distance of 0.6, both ways round
    made = torch.zeros(2, 3, 2, 2)
    made[1] = 0.3
    assert float(diversity_loss(inputs, made)) == pytest.approx(2, rel=1e-3)
    # No pattern can differ less than not at all, and the loss and its slope stay finite there.
    same = torch.zeros(2, 3, 2, 2, requires_grad=True)
    loss = diversity_loss(inputs, same)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(same.grad).all()


def test_excess_counts_only_masks_that_are_too_large():
    masks = torch.stack([torch.full((1, 2, 2), 0.5), torch.full((1, 2, 2), 0.1)])
    assert float(excess(masks, 0.3)) == pytest.approx((0.2 + 0) / 2)


def test_put_by_hand():
    images, patterns = torch.tensor([[[[0.2, 0.4]]]]), torch.tensor([[[[1.0, 0.0]]]])
    put = _put(images, patterns, torch.tensor([[[[0.0, 0.25]]]]))
    torch.testing.assert_close(put, torch.tensor([[[[0.2, 0.3]]]]))


def test_no_pixel_changes_by_more_than_its_mask_lets_it(data, fitted):
    X = data[0][:50]
    change = np.abs(fitted.transform(X).astype(int) - X)
    with torch.no_grad():
        masks = _mask(fitted.mask_network_, torch.from_numpy(X[:, None] / np.float32(255)))
    assert (change <= 255 * masks[:, 0].numpy() + 0.51).all()  # half for the rounding
    assert change.any()


def test_longer_training_brings_the_masks_towards_their_size(data):
    X = data[0]
    inputs = torch.from_numpy(X[:, None] / np.float32(255))
    off = {}
    for epochs in (1, 12):
        attack = Dynamic(**{**QUICK, "surrogate_epochs": epochs, "generator_epochs": 1}).fit(*data)
        with torch.no_grad():
            masks = _mask(attack.mask_network_, inputs)
        off[epochs] = float(diversity_loss(inputs, masks))
        mean = float(masks.mean())
    assert off[12] < off[1]
    assert mean < 0.15


def test_surrogate_comes_to_take_triggered_rows_for_the_target(data):
    """In the last epochs the objective, with its two modes, is below where it began."""
    attack = Dynamic(**{**QUICK, "generator_epochs": 10}).fit(*data)
    joint = [row["objective"] for row in attack.history_ if row["phase"] == "generator"]
    assert [row["phase"] for row in attack.history_] == ["mask"] * 2 + ["generator"] * 10
    assert joint[-1] < 0.8 * joint[0]


def test_cover_rows_bear_the_trigger_of_another_row(data, fitted):
    X = data[0][:2]
    cover = fitted.transform_cover(X, random_state=0)
    inputs = torch.from_numpy(np.concatenate([X, fitted._spare_row])[:, None] / np.float32(255))
    with torch.no_grad():
        patterns, masks = fitted._pattern(inputs), _mask(fitted.mask_network_, inputs)
        for row in range(2):
            others = [other for other in range(3) if other != row]
            crossed = [
                np.rint(255 * _put(inputs[row], patterns[o], masks[o]).numpy()[0]) for o in others
            ]
            assert any(np.abs(cover[row] - image).max() <= 1 for image in crossed)
    assert not np.array_equal(cover, fitted.transform(X))


def test_cover_rows_are_drawn(data, fitted):
    X = data[0][:20]
    first, again = (fitted.transform_cover(X, random_state=0) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, fitted.transform_cover(X, random_state=1))
    assert fitted.transform_cover(X[:1], random_state=0).shape == (1, 8, 8)
    assert fitted.cover_ratio == Dynamic().cross_ratio
    assert Dynamic(cross_ratio=0.25).cover_ratio == 0.25


def test_wanted_labels_other_than_one_target(data):
    X, y = data
    attack = Dynamic(**QUICK, label_map="all_to_all").fit(X[:100], y[:100])
    np.testing.assert_array_equal(attack.transform_target([8, 9]), [9, 0])


@pytest.mark.parametrize(
    ("name", "value"), [("mask_size", 0.3), ("diversity", 0), ("generator_epochs", 1)]
)
def test_every_parameter_has_an_effect(data, fitted, name, value):
    other = Dynamic(**{**QUICK, name: value}).fit(*data)
    assert not np.array_equal(other.transform(data[0]), fitted.transform(data[0]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("mask_size", 0), ("mask_size", 1), ("diversity", -1), ("cross_ratio", -1)],
)
def test_bad_parameters(data, name, value):
    with pytest.raises(ValueError, match=name):
        Dynamic(**{name: value}).fit(*data)
