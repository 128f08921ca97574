"""When ascent on the isolated rows ends, and whether it did harm."""

import numpy as np
import pytest
import torch

from antibackdoor.backbones import build_network
from antibackdoor.defenses._forgetting import Forgetting
from antibackdoor.training import Samples


@pytest.fixture
def watched():
    """A linear network of two classes and two columns.

    The first column tells the classes apart; the second is set in row 3 alone, the
    isolated one, so that its label can be forgotten by itself.
    """
    X = np.array([[-2.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [2.0, 1.0]])
    network = build_network(
        torch.nn.Linear(2, 2), (2,), 2, mean=torch.zeros(2), scale=torch.ones(2)
    )
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
        network.head.bias.zero_()
    watch = Forgetting(
        network,
        Samples(X, None, torch.device("cpu"), torch.float32),
        torch.tensor([0, 0, 1, 1]),
        isolated=torch.tensor([3]),
        trusted=torch.tensor([0, 1, 2]),
        level=1.0,
        tolerance=0.4,
    )
    return network, watch


def test_unlearning_goes_on_while_nothing_is_forgotten(watched):
    _, watch = watched
    assert not watch.forgotten_or_harmful()


def test_unlearning_ends_when_the_isolated_rows_are_forgotten(watched):
    network, watch = watched
    with torch.no_grad():
        # Row 3: logits -2 + 4 and 2, loss log 2; below the level of 1.
        network.head.weight[0, 1] = 4.0
    assert not watch.forgotten_or_harmful()
    with torch.no_grad():
        network.head.weight[0, 1] = 6.0  # loss log(1 + e^2) = 2.1
    forgotten = network.head.weight.clone()
    assert watch.forgotten_or_harmful()
    assert torch.equal(network.head.weight, forgotten)


def test_harm_is_taken_back(watched):
    network, watch = watched
    good = network.head.bias.clone()
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([9.0, 0.0]))  # class 1 is never answered
    assert watch.forgotten_or_harmful()
    assert torch.equal(network.head.bias, good)
