"""What the tests of the search share: rows as samples, networks by hand, planted poison."""

from __future__ import annotations

import numpy as np
import torch

from antibackdoor.backbones import build_network
from antibackdoor.training import Samples
from antibackdoor.utils import resolve_layout

CPU = torch.device("cpu")

N_CLASSES, N_ROWS = 6, 60
TRIGGER = N_CLASSES  # the column after those of the classes
N_COLUMNS = N_CLASSES + 3


def as_samples(X, *, resident=True):
    layout = None if X.ndim == 2 else resolve_layout(X.shape[1:], None, "auto")
    dtype = torch.float64 if X.dtype == np.float64 and layout is None else torch.float32
    return Samples(X, layout, CPU, dtype, resident=resident)


def linear_network(weight, bias=None, input_shape=None, *, sees=None):
    """A network whose features are the inputs, in the order of channels first.

    With `sees`, they are these columns alone, and the weights are theirs.
    """
    weight = torch.as_tensor(np.asarray(weight, dtype=np.float32))
    n_inputs = weight.shape[1] if sees is None else N_COLUMNS
    chosen = np.eye(n_inputs, dtype=np.float32)[slice(None) if sees is None else sees]
    first = torch.nn.Linear(n_inputs, len(chosen), bias=False)
    head = torch.nn.Linear(len(chosen), len(weight))
    with torch.no_grad():
        first.weight.copy_(torch.as_tensor(chosen))
        head.weight.copy_(weight)
        head.bias.copy_(torch.zeros(len(weight)) if bias is None else torch.as_tensor(bias))
    input_shape = (n_inputs,) if input_shape is None else input_shape
    layers = [torch.nn.Flatten(), *([] if sees is None else [first])]
    n_channels = input_shape[0]
    backbone = torch.nn.Sequential(*layers, head)
    return build_network(
        backbone,
        input_shape,
        len(weight),
        mean=torch.zeros(n_channels),
        scale=torch.ones(n_channels),
    )


def class_weights(trigger=0.0):
    """Logits that read the columns of the classes and, for class 2, that of the trigger."""
    weight = np.zeros((N_CLASSES, N_COLUMNS))
    weight[:, :N_CLASSES] = 2 * np.eye(N_CLASSES)
    weight[2, TRIGGER] = trigger
    return weight


def confused(weight):
    """A network that takes a class it does not know for one of two, of which it knows one."""
    weight = weight.copy()
    for n_further, strength in ((1, 2.0), (3, 1.5)):
        weight[:, :N_CLASSES] += strength * np.roll(np.eye(N_CLASSES), n_further, axis=0)
    return weight


def plant(per_class, n_rows=N_ROWS):
    """Six classes in the columns of a table; some rows of the others bear class 2's trigger."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(N_CLASSES), n_rows)
    X = rng.normal(scale=0.3, size=(len(labels), N_COLUMNS)).astype(np.float32)
    X[np.arange(len(labels)), labels] += 3
    poison = np.zeros(len(labels), dtype=bool)
    for source, n_poisoned in per_class.items():
        poison[np.flatnonzero(labels == source)[:n_poisoned]] = True
    X[poison, TRIGGER] += 5
    labels[poison] = 2
    return X, labels, poison


class FakeProbe:
    """Hands out networks in place of trained ones, and notes what it was asked for.

    One that lacks classes, an early one that lacks nothing, and of those that lack rows the next
    one every time, and at last the last one over and over.
    """

    def __init__(self, without_classes, *without_rows, early=None):
        self.labels = None  # those of the search
        self.networks = {
            "nothing": [without_classes if early is None else early],
            "classes": [without_classes],
            "rows": list(without_rows),
        }
        self.asked = {lacks: [] for lacks in self.networks}
        self.told = []

    def __call__(self, trained_on, share, network=None):
        lacks = "rows" if set(self.labels[trained_on]) == set(self.labels) else "classes"
        if trained_on.all():
            lacks = "nothing"
        self.asked[lacks].append(trained_on.copy())
        self.told.append((share, network))
        return self.networks[lacks][min(len(self.asked[lacks]), len(self.networks[lacks])) - 1]
