"""What the tests of the search share: rows as samples, networks by hand, planted poison."""

from __future__ import annotations

import numpy as np
import torch

from antibackdoor.backbones import build_network
from antibackdoor.detection._cross_fit import cross_fit
from antibackdoor.detection._probes import Trained
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


def linear_network(weight, bias=None, input_shape=None, *, sees=None, n_inputs=N_COLUMNS):
    """A network whose features are the inputs, in the order of channels first.

    With `sees`, they are these columns alone, and the weights are theirs.
    """
    weight = torch.as_tensor(np.asarray(weight, dtype=np.float32))
    n_inputs = weight.shape[1] if sees is None else n_inputs
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


def poison_apart(*triggers):
    """Logits of the classes and, after them, of poison that bears a trigger in some columns."""
    weight = np.zeros((N_CLASSES + len(triggers), N_COLUMNS))
    weight[:N_CLASSES] = class_weights()
    for number, columns in enumerate(triggers):
        weight[N_CLASSES + number, columns] = 6.0
    return weight


def confused(weight):
    """A network that takes a class it does not know for one of two, which are like it."""
    weight = 2 * weight
    for n_further, strength in ((1, 2.0), (3, 1.95)):
        weight[:, :N_CLASSES] += strength * np.roll(np.eye(N_CLASSES), n_further, axis=0)
    return weight


def plant(per_class, n_rows=N_ROWS):
    """Six classes in the columns of a table; some rows of the others bear class 2's trigger.

    Of all classes so many rows each, or of each its own number.
    """
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

    What for, it tells from the rows: all of them are the "first", for which it has the first of the
    halves; about half of every class is a "half", some classes without a
    row are a "group" held out, and with labels of its own it is the "rest" of the
    poison. Of each kind it hands out the networks in turn, and at last the last one over and over.
    """

    def __init__(self, labels, *, halves=(), groups=(), rest=()):
        self.labels = labels  # those of the search
        self.networks = {"half": list(halves), "group": list(groups), "rest": list(rest)}
        self.networks["first"] = self.networks["half"][:1]
        self.asked = {kind: [] for kind in self.networks}
        self.told = []
        self.disturbed = []

    def __call__(self, trained_on, share, network=None, *, disturb=False, labels=None, **how):
        kind = self._kind(trained_on) if labels is None else "rest"
        self.asked[kind].append(trained_on.copy())
        self.told.append((kind, share, network))
        self.disturbed.append(disturb)
        networks = self.networks[kind]
        losses = np.full((2, len(self.labels)), np.nan)
        losses[:, trained_on] = 0.5
        return Trained(networks[min(len(self.asked[kind]), len(networks)) - 1], losses)

    def _kind(self, trained_on):
        if trained_on.all():
            return "first"
        rows = np.bincount(self.labels)
        shown = np.bincount(self.labels[trained_on], minlength=len(rows))
        if (np.abs(2 * shown - rows) <= 1).all():
            return "half"
        assert (shown == 0).any()
        return "group"


def fit_halves(X, labels, *networks, seed=0):
    """Cross-fit with these networks in place of the two, or with one for both."""
    return cross_fit(as_samples(X), labels, FakeProbe(labels, halves=networks), seed)


def seen_as(features, labels, seed=0):
    """A cross-fit both of whose networks see these features, and take all rows for class 0."""
    weight = np.zeros((labels.max() + 1, features.shape[1]))
    return fit_halves(features, labels, linear_network(weight), seed=seed)
