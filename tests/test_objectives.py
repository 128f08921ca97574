"""The ascents of ABL against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from antibackdoor.training import (
    CrossEntropy,
    HeldLoss,
    NegativeLoss,
    Unlearning,
    global_gradient_ascent,
    local_gradient_ascent,
    log_odds,
    negative_losses,
    sample_losses,
)


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def gradient(function, losses):
    (slope,) = torch.autograd.grad(function(losses), losses)
    return slope.tolist()


def test_sample_losses_of_two_logits():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    losses = sample_losses(logits, torch.tensor([0, 1]))
    # Probabilities of the labels: 1/2, and 1 / (3 + 1).
    assert losses.tolist() == pytest.approx([math.log(2), math.log(4)])


def test_lga_over_the_batch_has_the_sign_of_the_mean():
    # Mean 0.5 lies below 0.6: sign -1 for all, though one sample lies above.
    losses = leaf(0.1, 0.9)
    assert local_gradient_ascent(losses, 0.6, "batch").item() == pytest.approx(-0.5)
    assert gradient(lambda x: local_gradient_ascent(x, 0.6, "batch"), losses) == [-0.5, -0.5]
    assert gradient(lambda x: local_gradient_ascent(x, 0.4, "batch"), losses) == [0.5, 0.5]


def test_lga_over_samples_has_each_samples_sign():
    losses = leaf(0.1, 0.9)
    # (-0.1 + 0.9) / 2
    assert local_gradient_ascent(losses, 0.5, "sample").item() == pytest.approx(0.4)
    assert gradient(lambda x: local_gradient_ascent(x, 0.5, "sample"), losses) == [-0.5, 0.5]


def test_gga_is_the_clean_mean_less_the_isolated_mean():
    losses = leaf(1.0, 3.0, 5.0)
    isolated = torch.tensor([False, False, True])
    assert global_gradient_ascent(losses, isolated).item() == pytest.approx(2.0 - 5.0)
    assert gradient(lambda x: global_gradient_ascent(x, isolated), losses) == [0.5, 0.5, -1.0]


def test_gga_bound_stops_the_push_of_forgotten_samples():
    losses = leaf(1.0, 2.0, 8.0)
    isolated = torch.tensor([False, True, True])
    bounded = global_gradient_ascent(losses, isolated, bound=4.0)
    assert bounded.item() == pytest.approx(1.0 - (2.0 + 4.0) / 2)
    assert gradient(lambda x: global_gradient_ascent(x, isolated, 4.0), losses) == [1.0, -0.5, 0.0]


@pytest.mark.parametrize(("isolated", "wanted"), [([False, False], 2.0), ([True, True], -2.0)])
def test_gga_of_one_side_alone(isolated, wanted):
    value = global_gradient_ascent(leaf(1.0, 3.0), torch.tensor(isolated))
    assert value.item() == pytest.approx(wanted)


class FixedLogits(torch.nn.Module):
    """Two classes; the probability of class 0 is that of the input."""

    def forward(self, inputs):
        return torch.log(torch.stack([inputs, 1 - inputs], dim=1))


@pytest.mark.parametrize(
    ("objective", "wanted"),
    [
        # Losses of label 0: log 2 and log 4; their mean is 1.04.
        (CrossEntropy(), math.log(8) / 2),
        (HeldLoss(2.0, "batch"), -math.log(8) / 2),
        (HeldLoss(1.0, "sample"), (math.log(4) - math.log(2)) / 2),
        (Unlearning(torch.tensor([False, True, False, True]), None), math.log(2) - math.log(4)),
    ],
)
def test_objectives_of_two_rows(objective, wanted):
    inputs, labels, index = torch.tensor([0.5, 0.25]), torch.tensor([0, 0]), torch.tensor([2, 3])
    value, logits = objective(FixedLogits(), inputs, labels, index)
    assert value.item() == pytest.approx(wanted)
    assert logits.shape == (2, 2)


def test_negative_losses_by_hand():
    logits = torch.tensor([[0.0, math.log(2), math.log(5)], [math.log(9), 0.0, -math.inf]])
    # Probabilities of the labels: 5/8, and 9 / (9 + 1); by chance 1/3.
    losses = negative_losses(logits, torch.tensor([2, 0]))
    assert losses.tolist() == pytest.approx([math.log((2 / 3) / (3 / 8)), math.log((2 / 3) / 0.1)])


def test_negative_losses_end_where_a_label_is_no_likelier_than_chance():
    logits = leaf([0.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [1.0, 0.0, 0.0])
    losses = negative_losses(logits, torch.zeros(3, dtype=torch.int64))
    assert losses[:2].tolist() == pytest.approx([0.0, 0.0])
    (slope,) = torch.autograd.grad(losses.sum(), logits)
    assert slope[1].tolist() == [0.0, 0.0, 0.0]
    assert slope[2, 0] > 0


@pytest.mark.parametrize(("sure", "wanted"), [(200.0, 200.0 - math.log(2)), (-200.0, 0.0)])
def test_negative_losses_of_what_is_certain_are_finite(sure, wanted):
    logits = torch.tensor([[sure, 0.0]], requires_grad=True)
    loss = negative_losses(logits, torch.tensor([0]))
    assert loss.item() == pytest.approx(wanted)
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    # d/dz of log(1 + e^z) is the probability of the label.
    assert slope[0, 0].item() == pytest.approx(float(sure > 0))


def test_negative_loss_descends_on_most_rows_and_denies_some():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]], dtype=torch.float64)
    complementary = torch.tensor([True, True, False, False])
    # The first row of the batch is row 3 of the data, the second is row 1.
    batch = (logits, torch.tensor([0, 0]), torch.tensor([3, 1]))
    value, given = NegativeLoss(complementary)(lambda inputs: inputs, *batch)
    # log 2 of the one; of the other, of probability 3/4, log(1/2) - log(1/4).
    assert value.item() == pytest.approx(math.log(2))
    assert given is logits


def test_log_odds_by_hand():
    logits = torch.tensor([[3.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    labels = torch.tensor([0, 2])
    wanted = [3 - math.log(3), -math.log(3)]
    assert log_odds(logits, labels).tolist() == pytest.approx(wanted)
    # The odds stay the same when all logits rise.
    assert log_odds(logits + 50, labels).tolist() == pytest.approx(wanted)
