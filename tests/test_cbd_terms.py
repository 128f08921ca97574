"""CBD's weights, discriminator and bottleneck against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from antibackdoor.backbones import build_network
from antibackdoor.defenses._cbd_terms import (
    Bottleneck,
    CausalObjective,
    Discriminator,
    LossTrajectory,
    dependence,
    information_bound,
    keep_above,
    normalise,
    relative_loss,
)


def test_relative_loss_is_the_share_of_f_b():
    shares = relative_loss(torch.tensor([1.0, 0.01, 3.0]), torch.tensor([1.0, 0.99, 1.0]))
    assert shares.tolist() == pytest.approx([0.5, 0.01, 0.75], abs=1e-6)


def test_relative_loss_of_two_vanished_losses_is_a_half():
    assert relative_loss(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(0.5)


def test_normalised_weights_have_a_mean_of_one():
    assert normalise(torch.tensor([0.1, 0.3])).tolist() == pytest.approx([0.5, 1.5])


def test_keep_above_drops_what_lies_far_below_the_median():
    weights = torch.tensor([0.1, 0.3, 0.8, 0.8, 0.9])
    assert keep_above(weights, 0.25).tolist() == [0, 1, 1, 1, 1]
    assert keep_above(weights, 0.5).tolist() == [0, 0, 1, 1, 1]


def test_loss_trajectory_is_the_geometric_mean_of_what_was_seen():
    trajectory = LossTrajectory(3, torch.device("cpu"))
    trajectory.add(torch.tensor([0, 2]), torch.tensor([4.0, 5.0]))
    trajectory.add(torch.tensor([0]), torch.tensor([1.0]))
    assert trajectory.mean(torch.tensor([0, 2])).tolist() == pytest.approx([2.0, 5.0])
    assert trajectory.times_seen(torch.tensor([0])) == 2


class Product(nn.Module):
    """A discriminator whose figure is z * r."""

    def forward(self, clean, backdoored):
        return (clean * backdoored).squeeze(1)


def test_dependence_by_hand():
    z, r = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [2.0], [3.0]])
    apart = torch.tensor([1, 2, 0])
    # Joint: (1 + 4 + 9) / 3. Shuffled: (1 * 2 + 2 * 3 + 3 * 1) / 3.
    assert dependence(Product(), z, r, apart).item() == pytest.approx((14 - 11) / 3)
    assert dependence(Product(), z, r, torch.arange(3)).item() == 0


def largest_singular_values(discriminator):
    layers = (discriminator.hidden, discriminator.output)
    return [torch.linalg.matrix_norm(layer.weight, 2).item() for layer in layers]


def test_discriminator_keeps_its_spectral_norm_while_it_learns():
    torch.manual_seed(0)
    discriminator = Discriminator(6, 6)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-2)
    z = torch.randn(256, 6)
    r = z + 0.1 * torch.randn(256, 6)
    largest, estimates = [], []
    for _ in range(100):
        estimate = dependence(discriminator, z, r, torch.randperm(256))
        optimizer.zero_grad()
        (-estimate).backward()
        optimizer.step()
        estimates.append(estimate.item())
        largest += largest_singular_values(discriminator)
    assert max(largest) <= 1 + 1e-3
    assert estimates[-1] > 10 * abs(estimates[0])  # it has learned to tell the pairs


def test_discriminator_is_lipschitz():
    torch.manual_seed(0)
    discriminator = Discriminator(4, 3).eval()
    a, b = torch.randn(500, 7), torch.randn(500, 7)
    figures = [discriminator(x[:, :4], x[:, 4:]) for x in (a, b)]
    slopes = (figures[0] - figures[1]).abs() / (a - b).norm(dim=1)
    assert slopes.max() <= 1 + 1e-3


def test_information_bound_by_hand():
    mean = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    log_variance = torch.tensor([[0.0, 0.0], [math.log(2), 0.0]])
    # KL of N(2, 1) is 2; of N(0, 2): (2 - 1 - log 2) / 2. Then the mean over two samples.
    wanted = (2.0 + (1 - math.log(2)) / 2) / 2
    assert information_bound(mean, log_variance).item() == pytest.approx(wanted)


def test_bottleneck_adds_noise_of_the_variance_it_counts():
    bottleneck = Bottleneck(8)
    features = torch.zeros(20_000, 8)
    noisy, information = bottleneck(features, torch.Generator().manual_seed(0))
    assert noisy.std().item() == pytest.approx(math.exp(-2), rel=0.02)
    one_feature = 0.5 * (math.exp(-4) - 1 + 4)
    assert information.item() == pytest.approx(8 * one_feature, rel=1e-5)


def objective_of(
    network, *, trajectory=None, rejection=0.0, soft_epochs=0, complementary=(), **switches
):
    generator = torch.Generator().manual_seed(0)
    settings = {
        "discriminator": None,
        "independence": 0.0,
        "bottleneck": None,
        "beta": 0.0,
        "reweight": False,
        **switches,
    }
    return CausalObjective(
        backdoored_features=torch.randn(4, 128, generator=torch.Generator().manual_seed(1)),
        backdoored_losses=torch.tensor([0.001, 1.0, 1.0, 1.0]),
        trajectory=trajectory,
        rejection=rejection,
        soft_epochs=soft_epochs,
        complementary=torch.isin(torch.arange(4), torch.tensor(complementary, dtype=torch.int64)),
        generator=generator,
        **settings,
    )


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network("mlp", (5,), 3, mean=torch.zeros(5), scale=torch.ones(5))


BATCH = (torch.linspace(-1, 1, 20).reshape(4, 5), torch.tensor([0, 1, 2, 0]), torch.arange(4))


def test_all_terms_off_is_the_cross_entropy(network):
    value, logits = objective_of(network)(network, *BATCH)
    assert value.item() == pytest.approx(
        nn.functional.cross_entropy(logits, BATCH[1]).item(), rel=1e-6
    )


def test_weighted_cross_entropy_by_hand(network):
    value, logits = objective_of(network, reweight=True)(network, *BATCH)
    losses = nn.functional.cross_entropy(logits, BATCH[1], reduction="none")
    backdoored = torch.tensor([0.001, 1.0, 1.0, 1.0])
    weights = backdoored / (backdoored + losses)
    wanted = (weights * losses).sum() / weights.sum()
    assert value.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_complementary_sample_has_its_own_loss_whatever_its_weight(network):
    value, logits = objective_of(network, reweight=True, complementary=[0])(network, *BATCH)
    losses = nn.functional.cross_entropy(logits, BATCH[1], reduction="none")
    weights = torch.tensor([0.001, 1.0, 1.0, 1.0])
    weights = weights / (weights + losses)
    parts = losses * weights / weights.mean()
    # By chance one label of three has two thirds against it.
    against = torch.log((2 / 3) / (1 - logits.softmax(1)[0, 0])).clamp(min=0)
    assert against > 0
    wanted = (against + parts[1:].sum()) / 4
    assert value.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_rejected_sample_has_no_gradient(network):
    trajectory = LossTrajectory(4, torch.device("cpu"))
    objective = objective_of(network, reweight=True, trajectory=trajectory, rejection=0.25)
    inputs = BATCH[0].clone().requires_grad_()
    value, _ = objective(network, inputs, *BATCH[1:])
    value.backward()
    assert inputs.grad[0].abs().max() == 0
    assert inputs.grad[1:].abs().amax(dim=1).min() > 0


def test_each_term_changes_the_value_and_reaches_the_network(network):
    plain, _ = objective_of(network)(network, *BATCH)
    with_bottleneck = {"bottleneck": Bottleneck(128), "beta": 0.1}
    with_independence = {"discriminator": Discriminator(128, 128), "independence": 1.0}
    for switches in (with_bottleneck, with_independence, {"reweight": True}):
        network.zero_grad()
        value, _ = objective_of(network, **switches)(network, *BATCH)
        value.backward()
        assert value.item() != pytest.approx(plain.item(), rel=1e-6)
        assert all(parameter.grad.abs().sum() > 0 for parameter in network.body[1].parameters())
