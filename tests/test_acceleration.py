"""Bodies that are compiled, or compute in bfloat16, while they are trained."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from antibackdoor import (
    ABLClassifier,
    CBDClassifier,
    Joint,
    LossRank,
    NADClassifier,
    UndefendedClassifier,
)
from antibackdoor.backbones import build_network
from antibackdoor.training import Acceleration

CPU = torch.device("cpu")


@pytest.fixture
def network():
    torch.manual_seed(0)
    blank, one = torch.zeros(1), torch.ones(1)
    return build_network("small-cnn", (1, 8, 8), 10, mean=blank, scale=one)


@pytest.fixture(scope="module")
def rows(digits):
    X, y = digits
    return X[:150], y[:150]


def weights_of(clf):
    return np.concatenate([w.detach().numpy().ravel() for w in clf.module_.parameters()])


@pytest.fixture
def traced_only(monkeypatch):
    """torch.compile up to the compiler, which takes its time."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


@pytest.fixture
def broken_compiler(monkeypatch):
    calls = []

    def backend(graph, example_inputs):
        calls.append(graph)
        raise OSError("there is no compiler here")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    return calls


@pytest.mark.parametrize("compile", ["auto", False])
def test_nothing_is_wrapped_on_a_cpu_unless_it_is_asked_for(network, compile):
    assert Acceleration(compile, CPU).wrap(network) is network


def test_auto_compiles_on_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    acceleration = Acceleration("auto", torch.device("cuda"))
    assert acceleration.compiles
    assert acceleration.mixes
    assert not Acceleration(False, torch.device("cuda")).compiles


def test_a_compiled_network_shares_its_weights(network, traced_only):
    x = torch.rand(6, 1, 8, 8)
    running = Acceleration(True, CPU).wrap(network)
    assert running is not network
    with torch.no_grad():
        for weights in network.parameters():
            weights *= 2
    assert_allclose(running(x).detach(), network(x).detach(), rtol=1e-4, atol=1e-5)
    running(x).sum().backward()
    assert all(weights.grad is not None for weights in network.parameters())


def test_compiled_fits_are_the_fits_they_are_without(rows, traced_only):
    plain, compiled = (
        UndefendedClassifier(epochs=2, compile=compile, random_state=0).fit(*rows)
        for compile in (False, True)
    )
    assert_allclose(weights_of(compiled), weights_of(plain), rtol=1e-3, atol=1e-4)
    assert list(compiled.module_.state_dict()) == list(plain.module_.state_dict())


def test_a_compiler_that_fails_is_told_of_once_and_done_without(rows, broken_compiler):
    settings = {"detector": LossRank(ratio=None, epochs=1), "epochs": 2, "random_state": 0}
    plain = CBDClassifier(compile=False, **settings).fit(*rows)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        clf = CBDClassifier(compile=True, **settings).fit(*rows)
    assert len(broken_compiler) == 1
    assert [warning.category for warning in told] == [RuntimeWarning]
    message = str(told[0].message)
    assert message.startswith("compile: torch.compile fails here")
    assert "there is no compiler here" in message
    assert_array_equal(weights_of(clf), weights_of(plain))


def test_what_looks_into_the_body_is_handed_the_network_itself(rows, broken_compiler):
    mask = np.ones(len(rows[1]), dtype=bool)
    clf = NADClassifier(epochs=1, finetune_epochs=1, random_state=0)
    with pytest.warns(RuntimeWarning, match=r"compile: torch.compile fails here"):
        told = clf.set_params(compile=True).fit(*rows, clean_mask=mask)
    assert {row["phase"] for row in told.history_} == {"train", "teach", "distil"}


@pytest.mark.parametrize(
    "clf",
    [
        ABLClassifier(
            detector=LossRank(ratio=0.05, epochs=1), cure=Joint(), epochs=1, random_state=0
        ),
        CBDClassifier(detector=LossRank(ratio=None, epochs=1), epochs=1, random_state=0),
    ],
    ids=["abl", "cbd"],
)
def test_half_precision_stays_inside_the_body(rows, clf, monkeypatch):
    plain = clf.fit(*rows)
    history, losses = plain.history_, [row["loss"] for row in plain.history_]
    seen = []
    decide = Acceleration.__init__

    def mixing(self, compile, device):
        decide(self, compile, device)
        self.mixes = True
        seen.append(self)

    monkeypatch.setattr(Acceleration, "__init__", mixing)
    mixed = clf.fit(*rows)
    assert seen
    assert all(weights.dtype == torch.float32 for weights in mixed.module_.parameters())
    assert [row["phase"] for row in mixed.history_] == [row["phase"] for row in history]
    assert_allclose([row["loss"] for row in mixed.history_], losses, rtol=0.15)
    assert [row["loss"] for row in mixed.history_] != losses


def test_half_precision_gives_out_whole_features(network):
    acceleration = Acceleration(False, CPU)
    acceleration.mixes = True
    x = torch.rand(6, 1, 8, 8)
    features = acceleration.wrap(network).features(x)
    assert features.dtype == torch.float32
    assert not torch.equal(features, network.features(x))
    assert_allclose(features.detach(), network.features(x).detach(), rtol=0.1, atol=0.05)


@pytest.mark.parametrize("compile", ["yes", 1.5, None])
def test_bad_compile(rows, compile):
    with pytest.raises(ValueError, match="'compile' parameter"):
        UndefendedClassifier(compile=compile).fit(*rows)
