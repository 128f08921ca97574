"""What share of this machine's arithmetic `fit` and `predict` reach, and what they cost beside it.

    python benchmarks/roofline.py --rounds 5

Arithmetic: the rate at which torch multiplies two square matrices, and the rate at which it copies
memory. Work: the floating-point operations that torch counts in the forward and backward
passes of one image. Every round measures everything once, one after the other, so that a
machine that slows down slows all; shares and ratios are medians over the rounds of what was
measured in one. Data are random images: their content changes no operation. Prints Markdown;
`--out` keeps the rounds as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import provenance
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from antibackdoor import UndefendedClassifier
from antibackdoor.backbones import Network, build_network

BATCH = 128
#: Images of an epoch and of a prediction: a few seconds' work for each network.
SIZES = {"wrn-16-1": (2_560, 5_120), "preact-resnet18": (256, 512), "small-cnn": (12_800, 25_600)}
EPOCHS = 3


def images(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random uint8 images and labels."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), np.arange(n) % 10


def new_network(backbone: str) -> Network:
    """Return an untrained network for 32 x 32 x 3 images."""
    torch.manual_seed(0)
    mean, scale = torch.full((3,), 0.5), torch.full((3,), 0.25)
    return build_network(backbone, (3, 32, 32), 10, mean=mean, scale=scale)


def random_batch(n: int = BATCH) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a float batch as a network takes it, and labels."""
    rows = torch.rand(n, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    return rows.permute(0, 3, 1, 2), torch.arange(n) % 10


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def gemm_rate(size: int = 2048) -> float:
    """Return floating-point operations a second of a matrix product: the best of five."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(5))


def copy_rate(n: int = 2**26) -> float:
    """Return bytes a second read and written by a copy: the best of five."""
    source = torch.ones(n)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source)) for _ in range(5))


def operations(backbone: str) -> tuple[int, int]:
    """Return the operations of one image in training and in prediction."""
    network = new_network(backbone).train()
    inputs, labels = random_batch(2)
    with FlopCounterMode(display=False) as training:
        F.cross_entropy(network(inputs), labels).backward()
    with FlopCounterMode(display=False) as prediction, torch.no_grad():
        network(inputs)
    return training.get_total_flops() // 2, prediction.get_total_flops() // 2


class BareLoop:
    """Forward, backward and step of one resident batch, and nothing else."""

    def __init__(self, backbone: str) -> None:
        self._network = new_network(backbone)
        self._batch = random_batch()
        self._optimizer = torch.optim.SGD(
            self._network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
        )

    def train(self, n: int) -> None:
        """Train on as many images."""
        inputs, labels = self._batch
        self._network.train()
        for _ in range(n // BATCH):
            self._optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(self._network(inputs), labels).backward()
            self._optimizer.step()

    @torch.no_grad()
    def predict(self, n: int) -> None:
        """Predict as many images."""
        self._network.eval()
        for _ in range(n // BATCH):
            self._network(self._batch[0])


def fit(backbone: str, n: int, augment: tuple[str, ...] | None) -> tuple[Any, float, float]:
    """Return a fitted classifier, seconds of its fit, and seconds of its median epoch."""
    X, y = images(n)
    clf = UndefendedClassifier(
        backbone=backbone, epochs=EPOCHS, batch_size=BATCH, augment=augment, random_state=0
    )
    whole = seconds(lambda: clf.fit(X, y))
    return clf, whole, statistics.median(row["seconds"] for row in clf.history_)


def measure_round(backbone: str) -> dict[str, float]:
    """Measure everything once; rates in images a second."""
    n_train, n_predict = SIZES[backbone]
    bare = BareLoop(backbone)
    bare.train(BATCH)
    X, _ = images(n_predict)
    clf, whole, epoch = fit(backbone, n_train, None)
    before = seconds(lambda: bare.train(n_train))
    _, _, augmented = fit(backbone, n_train, ("crop", "flip"))
    after = seconds(lambda: bare.train(n_train))
    bare.predict(BATCH)
    return {
        "gemm": gemm_rate(),
        "copy": copy_rate(),
        "bare": n_train / ((before + after) / 2),
        "fit": EPOCHS * n_train / whole,
        "epoch": n_train / epoch,
        "augmented epoch": n_train / augmented,
        "bare prediction": n_predict / seconds(lambda: bare.predict(n_predict)),
        "prediction": n_predict / seconds(lambda: clf.predict(X)),
    }


def report(backbone: str, rounds: list[dict[str, float]]) -> None:
    """Print what the rounds of one network show."""
    training, prediction = operations(backbone)

    def median(rate: Callable[[dict[str, float]], float]) -> float:
        return statistics.median(rate(measured) for measured in rounds)

    print(f"\n### {backbone}: {training / 1e6:.0f} MFLOP an image in training, ", end="")
    print(f"{prediction / 1e6:.0f} in prediction\n")
    print("| | images/s | share of the matrix product |\n|---|---|---|")
    for name in rounds[0]:
        if name in ("gemm", "copy"):
            continue
        work = prediction if "prediction" in name else training
        share = median(lambda r, name=name, work=work: r[name] * work / r["gemm"])
        print(f"| {name} | {median(lambda r, name=name: r[name]):.0f} | {share:.2f} |")
    print(f"\nmatrix product {median(lambda r: r['gemm']) / 1e9:.0f} GFLOP/s, ", end="")
    print(f"copy {median(lambda r: r['copy']) / 1e9:.1f} GB/s")
    over = median(lambda r: r["bare"] / r["epoch"] - 1)
    print(f"an epoch of fit over the bare loop: {100 * over:+.1f} %")
    augmenting = median(lambda r: r["epoch"] / r["augmented epoch"] - 1)
    print(f"crops and flips over an epoch without: {100 * augmenting:+.1f} %")
    whole = median(lambda r: r["epoch"] / r["fit"] - 1)
    print(f"a whole fit of {EPOCHS} epochs over its epochs: {100 * whole:+.1f} %")
    predicting = median(lambda r: r["bare prediction"] / r["prediction"] - 1)
    print(f"predict over bare forward passes: {100 * predicting:+.1f} %", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["wrn-16-1", "preact-resnet18"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kept = {**provenance(), "rounds": {}}
    print(json.dumps(kept))
    for backbone in options.backbones:
        measure_round(backbone)  # the first one warms up
        rounds = [measure_round(backbone) for _ in range(options.rounds)]
        kept["rounds"][backbone] = rounds
        report(backbone, rounds)
    if options.out is not None:
        options.out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
