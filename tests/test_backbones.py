"""Networks by name, callable and module, and the features before their last layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from antibackdoor.backbones import build_network, choose_backbone


def build(backbone, shape=(3, 32, 32), n_classes=4, **options):
    return build_network(
        backbone,
        shape,
        n_classes,
        mean=torch.zeros(shape[0]),
        scale=torch.ones(shape[0]),
        **options,
    ).eval()


@pytest.mark.parametrize(
    ("backbone", "shape", "n_features"),
    [
        ("mlp", (7,), 128),
        ("mlp", (1, 8, 8), 128),
        ("small-cnn", (1, 8, 8), 64),
        ("small-cnn", (3, 1, 1), 64),
        ("wrn-16-1", (3, 32, 32), 64),
        ("wrn-10-2", (1, 28, 28), 128),
        ("preact-resnet18", (3, 32, 32), 512),
        ("resnet18", (3, 32, 32), 512),
        ("resnet18", (1, 32, 32), 512),
        ("squeezenet1_1", (3, 64, 64), 512),
        ("mobilenet_v3_small", (3, 32, 32), 1024),
    ],
)
def test_named_backbones_have_logits_and_features(backbone, shape, n_features):
    network = build(backbone, shape)
    inputs = torch.rand(2, *shape)
    features = network.features(inputs)
    assert features.shape == (2, n_features)
    torch.testing.assert_close(network(inputs), network.head(features))
    assert network(inputs).shape == (2, 4)


def test_wrn_16_1_has_the_published_number_of_weights():
    # Zagoruyko & Komodakis give 0.2 M for WRN-16-1; counted by hand for 10 classes: 175,066.
    network = build("wrn-16-1", n_classes=10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 175_066


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((5,), "mlp"),
        ((1, 8, 8), "small-cnn"),
        ((3, 32, 15), "small-cnn"),
        ((3, 32, 32), "wrn-16-1"),
        ((3, 64, 64), "wrn-16-1"),
        ((3, 224, 224), "resnet18"),
    ],
)
def test_auto_goes_by_the_shape(shape, name):
    assert choose_backbone(shape) == name


def test_standardise_belongs_to_the_network():
    network = build_network(
        "mlp", (2,), 2, mean=torch.tensor([5.0, 1.0]), scale=torch.tensor([2.0, 0.0])
    )
    # A constant column has no scale to be divided by.
    wanted = torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(network.standardise(torch.tensor([[7.0, 3.0]])), wanted)


def test_weights_follow_the_seed():
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(build("small-cnn", (1, 8, 8)).head.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_module_is_copied_with_its_weights():
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 4))
    inputs = torch.rand(2, 3, 2, 2)
    wanted = module(inputs)
    network = build(module, (3, 2, 2))
    torch.testing.assert_close(network(inputs), wanted)
    nn.init.zeros_(network.head.weight)
    assert module[3].weight.abs().sum() > 0
    assert isinstance(module[3], nn.Linear)


def test_a_callable_is_given_shape_and_classes():
    given = []

    def backbone(shape, n_classes):
        given.append((shape, n_classes))
        return nn.Linear(shape[0], n_classes)

    network = build(backbone, (6,))
    assert given == [((6,), 4)]
    inputs = torch.rand(2, 6)
    torch.testing.assert_close(network.features(inputs), inputs)


def test_the_last_layer_is_the_one_that_ran_last():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(5, 4)
            self.body = nn.Linear(6, 5)

        def forward(self, x):
            return self.head(torch.relu(self.body(x)))

    assert build(Backwards(), (6,)).head.in_features == 5


@pytest.mark.parametrize(
    ("backbone", "shape", "message"),
    [
        ("resnet-a-lot", (3, 32, 32), "backbone='resnet-a-lot' is unknown"),
        ("wrn-15-1", (3, 32, 32), "6 n \\+ 4"),
        ("wrn-16-0", (3, 32, 32), "width 1 or more"),
        ("wrn-16-1", (9,), "takes images"),
        ("resnet18", (2, 32, 32), "1 or 3 channels"),
        (nn.Linear(6, 3), (6,), "one column for each class"),
        (nn.Linear(5, 4), (6,), "cannot take an input"),
        (nn.Sequential(nn.Linear(6, 4), nn.Softmax(1)), (6,), "no softmax"),
    ],
)
def test_backbones_that_do_not_fit(backbone, shape, message):
    with pytest.raises(ValueError, match=message):
        build(backbone, shape)


@pytest.mark.parametrize("backbone", [3, lambda shape, n_classes: "resnet"])
def test_what_is_no_backbone(backbone):
    with pytest.raises(TypeError, match="backbone"):
        build(backbone, (6,))


def test_a_head_of_another_size_keeps_its_first_classes():
    network = build_network("small-cnn", (1, 8, 8), 3, mean=torch.zeros(1), scale=torch.ones(1))
    images = torch.rand(4, 1, 8, 8)
    before = network.eval()(images)
    network.resize_head(5)
    assert network.head.out_features == 5
    torch.testing.assert_close(network(images)[:, :3], before)
    head = network.head
    network.resize_head(5)
    assert network.head is head
    network.resize_head(2)
    torch.testing.assert_close(network(images), before[:, :2])
