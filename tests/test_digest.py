"""What the result of a phase depends on has a digest of its own: `digest_of`."""

import copy
import functools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from antibackdoor.backbones import build_network
from antibackdoor.training import CrossEntropy, HeldLoss, Recipe, ShuffledRows
from antibackdoor.training._digest import digest_of


@dataclass
class Holder:
    """An object of one attribute."""

    value: object


class Other(Holder):
    """The same attribute, of another class."""


def closing_over(number, name="n"):
    def stop():
        return number > 3

    return stop


def with_default(number=1):
    return number


def with_keyword(*, number=1):
    return number


def other_keyword():
    def with_keyword(*, number=2):
        return number

    with_keyword.__qualname__ = "with_keyword"
    return with_keyword


def inner(code):
    """Return a function that holds another."""
    scope = {}
    exec(f"def outer(rows):\n    return [{code} for _ in (1,)]", scope)
    return scope["outer"]


def generator(seed, drawn=0):
    made = torch.Generator().manual_seed(seed)
    torch.rand(drawn, generator=made)
    return made


def linear(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.1))


def optimizer(rate):
    return torch.optim.SGD(linear(0).parameters(), lr=rate)


def labels(*values):
    return ShuffledRows(torch.tensor(values), 2)


#: Values of one kind, no two of which a phase may take for each other.
KINDS = {
    "numbers": [0, 1, 0.0, -0.0, 1.0, True, False, 1j, float("nan"), float("inf")],
    "text": ["1", b"1", "", "1 ", None],
    "dtype": [np.zeros(2, np.int32), np.zeros(2, np.int64), np.zeros(2, np.float32)],
    "shape": [np.zeros((2, 3)), np.zeros((3, 2)), np.zeros(6), np.zeros((6, 1))],
    "value": [np.arange(3), np.array([0, 1, 3])],
    "empty arrays": [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(0)],
    "tensor dtype": [torch.zeros(2, dtype=d) for d in (torch.int32, torch.int64, torch.float32)],
    "half precision": [
        torch.zeros(2, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.bfloat16),
        torch.zeros(2, dtype=torch.float16),
    ],
    "tensor shape": [torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(6), torch.tensor(0.0)],
    "tensor value": [torch.arange(3), torch.tensor([0, 1, 3]), np.arange(3)],
    "lists": [[], [[]], [1, 2], [2, 1], (1, 2), [[1], 2], [1, [2]], ["1", "2"], ["12"]],
    "dicts": [{}, {"a": 1}, {"a": 2}, {"b": 1}, {"a": {"a": 1}}],
    "objects": [Holder(1), Holder(2), Other(1), Holder([1]), Holder(np.arange(2)), Holder(None)],
    "generators": [generator(0), generator(1), generator(0, drawn=1)],
    "weights": [linear(0), linear(1), linear(0).eval(), nn.Linear(3, 2)],
    "closures": [closing_over(1), closing_over(2)],
    "defaults": [with_default, with_keyword, other_keyword()],
    "names in code": [inner("rows.min()"), inner("rows.max()"), inner("len(rows)")],
    "lambdas inside": [inner("(lambda: rows + 1)()"), inner("(lambda: rows + 2)()")],
    "partial": [
        functools.partial(with_default, 1),
        functools.partial(with_default, 2),
        functools.partial(with_default, number=1),
        functools.partial(with_keyword),
    ],
    "methods": [[].append, Holder(1).__eq__, Holder(2).__eq__],
    "optimisers": [optimizer(0.1), optimizer(0.2)],
    "objectives": [
        CrossEntropy(),
        HeldLoss(0.5, "batch"),
        HeldLoss(0.5, "sample"),
        HeldLoss(0.4, "batch"),
    ],
    "batches": [labels(0, 1, 2), labels(0, 2, 1), ShuffledRows(torch.arange(3), 3)],
    "recipes": [
        Recipe(learning_rate=rate, schedule=schedule, momentum=0.9, weight_decay=0.0)
        for rate, schedule in ((0.1, "constant"), (0.2, "constant"), (0.1, "cosine"))
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_differs_has_other_digests(kind):
    digests = [digest_of(value) for value in KINDS[kind]]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "methods"])
def test_what_is_equal_has_one_digest(kind):
    for value in KINDS[kind]:
        if isinstance(value, torch.Generator):
            again = torch.Generator()
            again.set_state(value.get_state())
        else:
            again = copy.deepcopy(value)
        assert digest_of(again) == digest_of(value)


def test_of_a_tensor_neither_layout_nor_gradient_counts():
    plain = torch.arange(6.0).reshape(2, 3)
    turned = plain.T.contiguous().T
    assert digest_of(turned) == digest_of(plain)
    assert digest_of(plain.clone().requires_grad_()) == digest_of(plain)
    rows = np.arange(6).reshape(2, 3)
    assert digest_of(np.asfortranarray(rows)) == digest_of(rows)


def test_what_holds_itself_has_a_digest():
    one, other, deeper = [1], [1], [1]
    one.append(one)
    other.append(other)
    deeper.append([1, deeper])
    assert digest_of(one) == digest_of(other)
    assert digest_of(deeper) != digest_of(one)


def test_a_network_is_told_by_its_weights():
    zero, one = torch.zeros(1), torch.ones(1)
    network = build_network("small-cnn", (1, 8, 8), 3, mean=zero, scale=one)
    again = copy.deepcopy(network)
    assert digest_of(again) == digest_of(network)
    with torch.no_grad():
        next(again.parameters()).view(-1)[0] += 1
    assert digest_of(again) != digest_of(network)
