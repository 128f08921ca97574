"""Two networks that compute other things have other digests, whatever they print."""

import functools
import itertools
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from antibackdoor.backbones import build_network, digest_network


class Net(nn.Module):
    """Two linear layers, of weights that are always the same, and something between."""

    def __init__(self, between=torch.relu, **attributes):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)
        with torch.no_grad():
            for weights in self.parameters():
                weights.copy_(torch.randn(weights.shape, generator=generator))
        self.between = between
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.b(self.between(self.a(x)))


def digest(module):
    one, zero = torch.ones(6), torch.zeros(6)
    network = build_network(module, (6,), 3, mean=zero, scale=one)
    return digest_network(network, (6,))


class Slope(Net):
    def forward(self, x):
        return self.b(F.leaky_relu(self.a(x), self.slope))


class InTraining(Net):
    def forward(self, x):
        return self.b(F.dropout(self.a(x), self.rate, self.training))


class Detached(Net):
    def forward(self, x):
        return self.b(self.a(x).detach() if self.detached else self.a(x))


class Capped(Net):
    def forward(self, x):
        return self.b(self.a(x).clamp(-self.cap, self.cap))


class Unseeded(Net):
    """Draws from numpy's generator, which nobody seeds: what it gives tells nothing."""

    def forward(self, x):
        noise = torch.from_numpy(np.random.default_rng().normal(size=(len(x), 8)).astype("f4"))
        return self.b(self.a(x) + self.scale * noise)


class UnseededOther(Unseeded):
    def forward(self, x):
        noise = torch.from_numpy(np.random.default_rng().normal(size=(len(x), 8)).astype("f4"))
        return self.b(self.a(x) - self.scale * noise)


UnseededOther.__qualname__ = Unseeded.__qualname__


class Scaled(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, weights):
        return self.by * weights


def scaled(by):
    return lambda x: by * x


def hooked(by):
    net = Net()
    net.a.register_forward_hook(lambda module, given, output: by * output)
    return net


def backward_hooked(by):
    net = Net()
    net.a.register_full_backward_hook(lambda module, given, output: (by * given[0],))
    return net


def with_buffer(value):
    net = Net()
    net.register_buffer("not_kept", torch.tensor(value), persistent=False)
    return net


def parametrised(by):
    net = Net()
    parametrize.register_parametrization(net.a, "weight", Scaled(by))
    return net


def frozen(is_frozen):
    net = Net()
    net.a.weight.requires_grad_(not is_frozen)
    return net


def patched(by):
    net = Net()
    net.forward = types.MethodType(lambda self, x: Net.forward(self, by * x), net)
    return net


PAIRS = {
    "attribute": lambda value: Slope(slope=0.1 + value),
    "in training alone": lambda value: InTraining(rate=0.1 + value / 2),
    "gradient": lambda value: Detached(detached=value > 0),
    "far values": lambda value: Capped(cap=6.0 if value else 1e9),
    "lambda": lambda value: Net((lambda x: x.sin()) if value else (lambda x: x.cos())),
    "closure": lambda value: Net(scaled(1 + value)),
    "partial": lambda value: Net(functools.partial(F.leaky_relu, negative_slope=value)),
    "forward hook": hooked,
    "backward hook": backward_hooked,
    "buffer that is not kept": with_buffer,
    "parametrisation": parametrised,
    "frozen": frozen,
    "forward of an instance": patched,
    "random, attribute": lambda value: Unseeded(scale=value),
    "random, forward": lambda value: (UnseededOther if value else Unseeded)(scale=1.0),
    "momentum": lambda value: nn.Sequential(
        nn.BatchNorm1d(6, momentum=0.1 + value / 2), *Net().children()
    ),
}


@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS)
def test_another_network_has_another_digest(make):
    first, second = 0.25, 0.75
    if make in (PAIRS["far values"], PAIRS["gradient"], PAIRS["frozen"], PAIRS["lambda"]):
        first = 0.0
    if make is PAIRS["random, forward"]:
        first = 0
    assert digest(make(first)) == digest(make(first))
    assert digest(make(first)) != digest(make(second))


def test_asking_leaves_network_and_generators_alone():
    module = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 3))
    network = build_network(module, (6,), 3, mean=torch.zeros(6), scale=torch.ones(6)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    digests = {digest_network(network, (6,)) for _ in range(2)}
    assert len(digests) == 1
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert all(weights.grad is None for weights in network.parameters())
    assert network.training


class Picky(Net):
    def forward(self, x):
        if x.abs().max() > 50:
            raise ValueError("such rows are never seen")
        return super().forward(x)


def test_a_network_that_refuses_the_rows_is_told_by_what_is_written():
    assert digest(Picky(scaled(1.0))) == digest(Picky(scaled(1.0)))
    assert digest(Picky(scaled(1.0))) != digest(Picky(scaled(2.0)))


def test_all_of_a_tensor_counts():
    def with_tensor(tensor):
        net = Net()
        net.register_buffer("held", tensor)
        return digest(net)

    tensors = [
        torch.zeros(4, dtype=torch.int32),
        torch.zeros(4),
        torch.zeros(2, 2),
        torch.zeros(2, dtype=torch.float64),
        torch.tensor([0.0, 0.0, 0.0, 1.0]),
        torch.tensor([0.0, 0.0, 1.0, 0.0]),
        torch.zeros(0, 3),
        torch.zeros(0, 2),
    ]
    assert all(with_tensor(a) != with_tensor(b) for a, b in itertools.combinations(tensors, 2))
