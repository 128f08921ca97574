"""Muon: what it does to weights, which weights it leaves to SGD, and batches by rows."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from antibackdoor import (
    ABLClassifier,
    CBDClassifier,
    DBDClassifier,
    PoisonSearch,
    UndefendedClassifier,
)
from antibackdoor.datasets import load_digits_images
from antibackdoor.training import _store as store
from antibackdoor.training import resolve_batch_size
from antibackdoor.training._optimizers import Muon, make_optimizer, polar_factor


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 9), (64, 576)])
def test_all_singular_values_of_a_polar_factor_are_1(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(polar_factor(matrix), left @ right, atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_a_polar_factor_does_not_depend_on_the_size_of_a_matrix(size):
    matrix = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(polar_factor(size * matrix), polar_factor(matrix))


def test_a_matrix_of_zeros_has_no_direction():
    assert not polar_factor(torch.zeros(3, 4)).any()


def test_of_few_directions_none_is_made_up():
    matrix = torch.outer(torch.arange(1.0, 4), torch.arange(1.0, 5))
    values = torch.linalg.svdvals(polar_factor(matrix))
    assert values[0] == pytest.approx(1, abs=1e-3)
    assert values[1] < 0.01


def stepped(network, optimizer, n_steps=3):
    """Train a network on noise."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(n_steps):
        optimizer.zero_grad()
        network(torch.randn(4, 2, 6, 6, generator=generator)).square().sum().backward()
        optimizer.step()
    return network


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(64, 3))


SETTINGS = {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}


def test_convolutions_keep_their_norm_and_change_their_direction():
    network = small_network()
    before = copy.deepcopy(network[0].weight)
    after = stepped(network, Muon(network.parameters(), **SETTINGS))[0].weight
    assert after.norm().item() == pytest.approx(before.norm().item(), rel=1e-5)
    assert (after - before).norm() > 1e-4 * before.norm()


def test_a_step_is_a_quarter_of_the_rate_as_a_share_of_the_weights():
    network = small_network()
    before = copy.deepcopy(network[0].weight)
    optimizer = Muon(network.parameters(), **{**SETTINGS, "lr": 0.01})
    after = stepped(network, optimizer, n_steps=1)[0].weight
    share = (after - before).norm() / before.norm()
    assert share.item() == pytest.approx(0.25 * 0.01, rel=0.05)


def test_a_convolution_of_zeros_can_leave_them():
    network = small_network()
    nn.init.zeros_(network[0].weight)
    after = stepped(network, Muon(network.parameters(), **SETTINGS))
    assert torch.isfinite(after[0].weight).all()
    assert after[0].weight.norm() > 0


def test_a_closure_gives_the_gradients_of_the_step():
    weights = torch.nn.Parameter(
        torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    )
    before = weights.detach().clone()
    optimizer = Muon([weights], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (weights**3).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == (before**3).sum()
    assert weights.norm().item() == pytest.approx(before.norm().item()) and not torch.equal(
        weights, before
    )


def test_an_optimiser_that_there_is_not():
    with pytest.raises(ValueError, match="optimizer='Muon'; wanted one of muon, sgd"):
        make_optimizer("Muon", [], learning_rate=0.1, momentum=0.9, weight_decay=0.0)


def test_what_is_no_convolution_steps_as_with_sgd():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    one, other = copy.deepcopy(network), network
    stepped(one, Muon(one.parameters(), **SETTINGS))
    stepped(other, torch.optim.SGD(other.parameters(), **SETTINGS))
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits_images()
    return X[:200], y[:200]


def fitted(data, **changes):
    settings = {"epochs": 3, "backbone": "small-cnn", "random_state": 0, **changes}
    return UndefendedClassifier(**settings).fit(*data)


def test_the_optimiser_matters_to_networks_with_convolutions_alone(digits):
    X, y = digits
    of_images = [fitted(digits, optimizer=one).predict_proba(X) for one in ("muon", "sgd")]
    assert not np.allclose(*of_images)
    table = (X.reshape(len(X), -1) / 255, y)
    of_tables = [
        fitted(table, optimizer=one, backbone="mlp").predict_proba(table[0])
        for one in ("muon", "sgd")
    ]
    np.testing.assert_array_equal(*of_tables)


def test_it_learns_in_fewer_epochs(digits):
    losses = [
        fitted(digits, optimizer=one, epochs=8).history_[-1]["loss"] for one in ("muon", "sgd")
    ]
    assert losses[0] < losses[1]


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_a_stopped_fit_goes_on_with_its_momentum(digits, momentum, tmp_path, monkeypatch):
    wanted = fitted(digits, momentum=momentum).module_.state_dict()
    write_whole = store.write_whole

    def write_and_stop(path, content):
        write_whole(path, content)
        if path.suffix == ".safetensors":
            monkeypatch.setattr(store, "write_whole", write_whole)
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "write_whole", write_and_stop)
    with pytest.raises(KeyboardInterrupt):
        fitted(digits, momentum=momentum, cache_dir=tmp_path)
    found = fitted(digits, momentum=momentum, cache_dir=tmp_path).module_.state_dict()
    for name, weights in wanted.items():
        torch.testing.assert_close(found[name], weights, rtol=0, atol=0)


def test_from_paper_takes_sgd():
    for clf in (
        ABLClassifier.from_paper(),
        ABLClassifier.from_paper("released"),
        CBDClassifier.from_paper(),
        DBDClassifier.from_paper(),
    ):
        assert clf.optimizer == "sgd"


@pytest.mark.parametrize(
    ("n_rows", "batch_size"), [(2, 32), (5_000, 32), (10_000, 62), (20_480, 128), (50_000, 128)]
)
def test_a_batch_is_a_share_of_the_rows(n_rows, batch_size):
    assert resolve_batch_size("auto", n_rows) == batch_size
    assert resolve_batch_size(7, n_rows) == 7


def test_auto_is_the_batch_that_it_stands_for(digits):
    X, y = digits
    of_auto, of_number = (fitted(digits, batch_size=one).predict_proba(X) for one in ("auto", 32))
    np.testing.assert_array_equal(of_auto, of_number)


def test_auto_does_not_change_the_search(digits):
    settings = {"epochs": 2, "backbone": "small-cnn", "random_state": 0}
    of_auto, of_default = (
        PoisonSearch(**settings, **one).fit(*digits) for one in ({"batch_size": "auto"}, {})
    )
    np.testing.assert_array_equal(of_auto.isolate_scores_, of_default.isolate_scores_)
