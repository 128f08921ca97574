"""What the foreign rows of all classes share, by hand: poison that exchanges the classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from search_inputs import (
    N_CLASSES,
    N_COLUMNS,
    TRIGGER,
    FakeProbe,
    as_samples,
    class_weights,
    confused,
    fit_halves,
)
from search_inputs import linear_network as linear

from antibackdoor.backbones import build_network
from antibackdoor.detection._all_to_all import find_shared_part
from antibackdoor.detection._held_out import HeldOutPrediction
from antibackdoor.detection._search import find_poison
from antibackdoor.detection._transplant import Transplant

N_ROWS, N_POISONED = 80, 8


class Reacts(torch.nn.Module):
    """Sees the columns of the classes in another order in rows that bear the trigger."""

    def __init__(self, order):
        super().__init__()
        self.order = [*order, *range(N_CLASSES, N_COLUMNS)]

    def forward(self, x):
        return torch.where(x[:, [TRIGGER]] > 2.5, x[:, self.order], x)


def reacts(order):
    body = torch.nn.Sequential(Reacts(order), linear(class_weights()).head)
    return build_network(
        body, (N_COLUMNS,), N_CLASSES, mean=torch.zeros(N_COLUMNS), scale=torch.ones(N_COLUMNS)
    )


# Column k of a triggered row becomes that of class k + 1.
EXCHANGE = np.roll(np.arange(N_CLASSES), 1)


def plant_everywhere(n_poisoned=N_POISONED):
    """Six classes in the columns of a table; some rows have a trigger and the next label."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(N_CLASSES), N_ROWS)
    X = rng.normal(scale=0.3, size=(len(labels), N_COLUMNS)).astype(np.float32)
    X[np.arange(len(labels)), labels] += 3
    poison = np.arange(len(labels)) % N_ROWS < n_poisoned
    X[poison, TRIGGER] += 5
    return X, np.where(poison, (labels + 1) % N_CLASSES, labels), poison


def held_out(X, labels):
    """Each class is predicted by a network that takes it for one of two that are like it."""
    classes = np.arange(N_CLASSES)
    logits = X @ confused(class_weights()).T
    told = {}
    for label in classes:
        known = classes[classes != label]
        compared = np.flatnonzero(labels != label)[::10]
        told[int(label)] = HeldOutPrediction(known, softmax(logits[:, known], axis=1), compared)
    return told


def share(X, labels, network, recognised=None):
    fitted = fit_halves(X, labels, network)
    if recognised is not None:
        fitted = replace(fitted, odds=np.where(recognised, 1.0, -1.0))
    predictions = held_out(X, labels)
    foreign = np.zeros(len(labels))
    for label, told in predictions.items():
        rows = labels == label
        foreign[rows] = told.foreignness(rows, told.natural_shares(rows))
    return find_shared_part(as_samples(X), labels, fitted, predictions, foreign, 0)


@pytest.fixture(scope="module")
def planted():
    return plant_everywhere()


def test_a_trigger_that_gives_each_class_the_next_label_is_what_they_share(planted):
    X, labels, poison = planted
    part = share(X, labels, reacts(EXCHANGE))
    np.testing.assert_array_equal(part.probabilities > 0.5, poison)
    assert part.relabelling > 0.95
    assert part.p_value < 1e-6
    assert part.turned.min() > 0.95


def test_the_search_flags_it_in_every_class(planted, monkeypatch):
    """No class by itself tells: what a column of a class adds to a row is that class here."""
    nothing = Transplant(0.0, of_second=False)
    monkeypatch.setattr("antibackdoor.detection._search.transplant", lambda *given: nothing)
    X, labels, poison = planted
    apart = np.zeros((2 * N_CLASSES, N_COLUMNS))
    apart[:N_CLASSES] = class_weights()
    apart[N_CLASSES:, TRIGGER] = 6.0
    apart[N_CLASSES:, :N_CLASSES] = 6 * np.roll(np.eye(N_CLASSES), -1, axis=1)
    probe = FakeProbe(
        labels,
        halves=[reacts(EXCHANGE)],
        groups=[linear(confused(class_weights()))],
        rest=[linear(apart)],
    )
    detection = find_poison(as_samples(X), labels, probe=probe, false_alarm_rate=0.05, seed=0)
    assert detection.p_value < 1e-4
    np.testing.assert_array_equal(detection.isolation.mask, poison)
    np.testing.assert_array_equal(detection.complementary, poison)
    assert not detection.trusted[poison].any() and detection.trusted[~poison].mean() > 0.9
    assert detection.signs["relabelling"].min() > 0.9


def test_of_few_classes_or_rows_nothing_is_said(planted):
    """Two classes that are exchanged are a perfect answer, and so is one row of each."""
    X, labels, _ = planted
    two = share(X, labels, reacts(EXCHANGE), np.isin(labels, [0, 1]))
    assert two.relabelling == 0.0 and two.p_value > 0.5
    is_few = np.arange(len(labels)) % N_ROWS < N_POISONED + 2
    few = share(X, labels, reacts(EXCHANGE), is_few)
    assert few.relabelling == 0.0 and np.isnan(few.turned).all()


def test_half_a_trigger_is_half_a_sign(planted):
    """Four of the six classes are exchanged."""
    X, labels, _ = planted
    whole = share(X, labels, reacts(EXCHANGE)).relabelling
    part = share(X, labels, reacts([1, 0, 3, 2, 4, 5]))
    assert 0.3 * whole < part.relabelling < 0.8 * whole
    assert part.turned[:4].min() > 0.5 and part.turned[4:].max() < 0.1


def test_clean_classes_share_nothing_that_relabels():
    X, labels, _ = plant_everywhere(0)
    part = share(X, labels, reacts(EXCHANGE))
    assert part.relabelling < 0.2
    assert part.p_value > 0.1


@pytest.mark.parametrize("order", [[2] * 6, [TRIGGER] * 6], ids=["one class", "none"])
def test_what_turns_all_classes_into_one_or_blurs_them_relabels_none(planted, order):
    X, labels, _ = planted
    assert share(X, labels, reacts(order), np.ones(len(labels), bool)).relabelling < 0.2


def test_of_few_rows_of_many_classes_chance_relabels_none():
    """Sixty classes of twenty rows: without a correction any two answers seem to agree."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(60), 20)
    X = rng.normal(size=(1200, 8)).astype(np.float32)
    fitted = fit_halves(X, labels, linear(rng.normal(size=(60, 8)), n_inputs=8, input_shape=(8,)))
    fitted = replace(fitted, odds=np.ones(1200))
    known = np.arange(60)
    told = HeldOutPrediction(known, np.full((1200, 60), 1 / 60), np.arange(1200))
    predictions = dict.fromkeys(range(60), told)
    foreign = rng.random(1200)
    assert (
        find_shared_part(as_samples(X), labels, fitted, predictions, foreign, 0).relabelling < 0.1
    )


def test_rows_that_nobody_recognises_and_rows_that_are_not_foreign_share_nothing(planted):
    X, labels, _ = planted
    none = share(X, labels, reacts(EXCHANGE), np.zeros(len(labels), bool))
    assert none.relabelling == 0.0
    assert np.isnan(none.turned).all()
    fitted, predictions = fit_halves(X, labels, reacts(EXCHANGE)), held_out(X, labels)
    silent = find_shared_part(as_samples(X), labels, fitted, predictions, np.zeros(len(X)), 0)
    assert silent.relabelling == 0.0
    assert silent.p_value > 0.5
