"""What a maintainer times before and after a change: the parts of a fit, and whole ones.

    make speed ARGS=--benchmark-autosave
    make speed ARGS="--benchmark-compare --benchmark-compare-fail=median:10%"

The first keeps the times in .benchmarks/, the second compares with them (pytest-benchmark). One
thread, so that a busy second core disturbs less; data are random or digits. About three minutes.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from antibackdoor import (
    ABLClassifier,
    CBDClassifier,
    LossRank,
    PoisonSearch,
    UndefendedClassifier,
    make_poisoned,
)
from antibackdoor.backbones import build_network
from antibackdoor.datasets import load_digits_images
from antibackdoor.training import Augmentation, Samples
from antibackdoor.utils import resolve_layout

BATCH = 128
N_IMAGES = 1_280


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    X = random.integers(0, 256, (N_IMAGES, 32, 32, 3), dtype=np.uint8)
    return X, np.arange(N_IMAGES) % 10


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits_images()
    X_bad, y_bad, _ = make_poisoned(X, y, attack="badnets", random_state=0)
    return X_bad, y_bad


@pytest.mark.parametrize("backbone", ["small-cnn", "wrn-16-1"])
def test_bare_step(benchmark, backbone):
    torch.manual_seed(0)
    network = build_network(backbone, (3, 32, 32), 10, mean=torch.zeros(3), scale=torch.ones(3))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    inputs = torch.rand(BATCH, 32, 32, 3).permute(0, 3, 1, 2)
    labels = torch.arange(BATCH) % 10

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(inputs), labels).backward()
        optimizer.step()

    benchmark.pedantic(step, rounds=10, warmup_rounds=2)


@pytest.mark.parametrize("backbone", ["small-cnn", "wrn-16-1"])
def test_epoch_of_fit(benchmark, images, backbone):
    clf = UndefendedClassifier(backbone=backbone, epochs=1, augment=None, random_state=0)
    benchmark.pedantic(clf.fit, args=images, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("augment", [("crop", "flip"), ("crop", "flip", "cutout")], ids="+".join)
def test_augmentation(benchmark, images, augment):
    batch = torch.from_numpy(images[0][:BATCH])
    benchmark(Augmentation(augment), batch, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "in the array"])
def test_reading_a_batch(benchmark, images, resident):
    X, _ = images
    layout = resolve_layout(X.shape[1:], None, "auto")
    samples = Samples(X, layout, torch.device("cpu"), torch.float32, resident=resident)
    index = torch.randperm(N_IMAGES, generator=torch.Generator().manual_seed(0))[:BATCH]
    benchmark(lambda: samples.to_inputs(samples.stored(index)))


@pytest.mark.parametrize("backbone", ["small-cnn", "wrn-16-1"])
def test_predict(benchmark, images, backbone):
    X, y = images
    clf = UndefendedClassifier(backbone=backbone, epochs=1, random_state=0).fit(X[:256], y[:256])
    benchmark.pedantic(clf.predict, args=(X,), rounds=5, warmup_rounds=1)


def test_search(benchmark, digits):
    benchmark.pedantic(PoisonSearch(epochs=5, random_state=0).fit, args=digits, rounds=3)


@pytest.mark.parametrize("detector", [PoisonSearch(epochs=5), LossRank(ratio=0.1, epochs=5)])
def test_abl(benchmark, digits, detector):
    clf = ABLClassifier(detector=detector, epochs=5, random_state=0)
    benchmark.pedantic(clf.fit, args=digits, rounds=3)


@pytest.mark.parametrize("detector", [PoisonSearch(epochs=5), LossRank(ratio=None, epochs=5)])
def test_cbd(benchmark, digits, detector):
    clf = CBDClassifier(detector=detector, epochs=5, random_state=0)
    benchmark.pedantic(clf.fit, args=digits, rounds=3)


@pytest.mark.parametrize("attack", ["badnets", "blend", "wanet"])
def test_make_poisoned(benchmark, images, attack):
    X, y = images
    benchmark(lambda: make_poisoned(X, y, attack=attack, random_state=0))
