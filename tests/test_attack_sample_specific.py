"""SampleSpecific: what its residuals share, how large they are, and whether they can be read."""

import numpy as np
import pytest
import torch

from antibackdoor.attacks import SampleSpecific
from antibackdoor.attacks._sample_specific import common_share

QUICK = {"surrogate": "small-cnn", "surrogate_epochs": 2}


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    return X[:300], y[:300]


@pytest.fixture(scope="module")
def fitted(data):
    return SampleSpecific(**QUICK).fit(*data)


def test_common_share_by_hand():
    messages = torch.tensor([0, 0, 1, 1])
    same = torch.tensor([1.0, 1, -2, -2]).view(4, 1, 1, 1)
    opposite = torch.tensor([1.0, -1, 2, -2]).view(4, 1, 1, 1)
    half = torch.tensor([2.0, 0, 2, 0]).view(4, 1, 1, 1)  # mean 1: (1+1+1+1) of (4+0+4+0)
    assert float(common_share(same, messages)) == pytest.approx(1)
    assert float(common_share(opposite, messages)) == pytest.approx(0)
    assert float(common_share(half, messages)) == pytest.approx(0.5)


def test_common_share_without_residuals_or_with_a_message_left_out():
    assert float(common_share(torch.zeros(2, 1, 1, 1), torch.tensor([0, 2]))) == 0
    assert float(common_share(torch.ones(2, 1, 1, 1), torch.tensor([0, 2]))) == pytest.approx(1)


@pytest.mark.parametrize("eps", [4, 16])
def test_no_pixel_changes_by_more_than_eps(data, eps):
    X = data[0]
    attack = SampleSpecific(**QUICK, eps=eps, strength=0).fit(*data)
    change = np.abs(attack.transform(X).astype(int) - X)
    assert 0 < change.max() <= eps
    scaled = SampleSpecific(**QUICK, eps=eps, value_range=(0, 1)).fit(X / 255, data[1])
    assert np.abs(scaled.transform(X / 255) - X / 255).max() <= eps / 255 + 1e-6


def test_messages_are_read(data):
    attack = SampleSpecific(surrogate="small-cnn", surrogate_epochs=30, eps=48).fit(*data)
    assert attack.recovered_ > 0.6  # of four messages
    assert 0 <= attack.message_ < 4
    assert attack.history_[-1]["accuracy"] > attack.history_[0]["accuracy"]
    # The loop finds the logit of a row's message where it looks for it.
    for row in attack.history_:
        assert row["loss"] == pytest.approx(row["objective"], rel=1e-4)


def test_residuals_differ_more_where_that_is_asked_for(data):
    X = data[0][:200]
    share = {}
    for sameness in (0, 10):
        attack = SampleSpecific(**{**QUICK, "surrogate_epochs": 6}, eps=32, sameness=sameness)
        attack.fit(*data)
        inputs = torch.from_numpy(X[:, None] / np.float32(255))
        messages = torch.full((len(X),), attack.message_)
        with torch.no_grad():
            residuals = attack._hide(inputs, messages)[1]
        share[sameness] = float(common_share(residuals, messages))
    assert share[10] < share[0]


def test_strength_makes_the_residual_smaller(data):
    X = data[0]
    faint, loud = (
        SampleSpecific(**{**QUICK, "surrogate_epochs": 4}, strength=strength).fit(*data)
        for strength in (100, 0)
    )
    assert np.abs(faint.transform(X).astype(int) - X).mean() < (
        np.abs(loud.transform(X).astype(int) - X).mean()
    )


def test_number_of_messages(data, fitted):
    other = SampleSpecific(**QUICK, n_messages=2).fit(*data)
    assert other.message_ in (0, 1)
    assert not np.array_equal(other.transform(data[0]), fitted.transform(data[0]))


@pytest.mark.parametrize(
    ("name", "value"), [("eps", 0), ("eps", 256), ("n_messages", 1), ("strength", -1)]
)
def test_bad_parameters(data, name, value):
    with pytest.raises(ValueError, match=name):
        SampleSpecific(**{name: value}).fit(*data)
