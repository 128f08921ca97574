"""Schedules, batches and optimisers that were tried for the final network; rows to rows.jsonl.

    PYTHONPATH=../..:../../.. python trials.py --data-root ../../../../shared/data QUEUE

QUEUE is a file of settings, one a line: ``rows=5000 epochs=20 batch=32 lr=0.1``. A line that has
its row already is passed over. A line that is added while others are trained is trained too, until
one says ``end``. The network is wrn-16-1, on the first images of CIFAR-10 as they are, tested on
all 10,000 test images. One thread.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from _common import append_row, load_cifar10, provenance, resume_rows
from torch import nn
from torch.nn import functional as F

from antibackdoor.backbones import build_network
from antibackdoor.benchmark import RowFormat
from antibackdoor.training import Augmentation, Samples, ShuffledRows, compute_logits
from antibackdoor.utils import resolve_layout

DEFAULTS: dict[str, Any] = {
    "rows": 5000,
    "epochs": 20,
    "batch": 128,
    "lr": 0.1,
    # "cosine" and "linear" rise for `warm` of the steps; "steps" falls at half and three quarters.
    "shape": "cosine",
    "warm": 0.25,
    "momentum": 0.9,
    "wd": 5e-4,
    # Whether scales and shifts of batch norm, and biases, decay too.
    "wd_norm": 1,
    "smoothing": 0.0,
    # Averages the weights over about so many epochs, from the middle on.
    "ema": 0.0,
    # Lookahead (Zhang et al., 2019): every so many steps, half of the way.
    "lookahead": 0,
    # "sgd", or "polar": convolutions step along the polar factor of the momentum.
    "opt": "sgd",
    "lr_polar": 0.05,
    "momentum_polar": 0.9,
    # 1: the last convolution of each block begins at zero.
    "zero": 0,
    # 1: the first convolution begins as the principal directions of the data's patches.
    "whiten": 0,
    # 1: an image is mirrored in every second epoch, in place of half of the time.
    "alternate": 0,
    # Share of the epochs at the end without crops.
    "plain_end": 0.0,
    # Pixels of the crop's padding; 4 is the package's.
    "crop": 4,
    "seed": 0,
}

HERE = Path(__file__).parent
ROWS = RowFormat(
    key=lambda row: row["setting"],
    columns=("setting", "CA", "loss", "seconds", "commit", "versions", "machine"),
)


def read_setting(line: str) -> dict[str, Any]:
    setting = dict(DEFAULTS)
    for word in line.split():
        name, value = word.split("=")
        setting[name] = type(DEFAULTS[name])(value)
    return setting


def factor(step: int, steps: int, setting: dict[str, Any]) -> float:
    """Return the share of the highest rate at a step."""
    at = step / steps
    if setting["shape"] == "steps":
        return 0.1 ** ((at >= 0.5) + (at >= 0.75))
    warm = setting["warm"]
    if at < warm:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * at / warm)) / 2
    rest = (at - warm) / (1 - warm)
    return 1 - rest if setting["shape"] == "linear" else (1 + math.cos(math.pi * rest)) / 2


def polar(matrix: torch.Tensor) -> torch.Tensor:
    """Return about the nearest matrix with orthonormal rows or columns, by Newton's iteration."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (torch.linalg.matrix_norm(wide @ wide.T).sqrt() + 1e-12)
    for _ in range(6):
        gram = x @ x.T
        x = 1.875 * x - 1.25 * gram @ x + 0.375 * gram @ (gram @ x)
    return x if wide is matrix else x.T


class PolarStep:
    """Steps of convolutions along the polar factor of Nesterov's momentum, at a fixed norm."""

    def __init__(self, weights: list[nn.Parameter], momentum: float) -> None:
        self.weights, self.momentum = weights, momentum
        self.moving = [torch.zeros_like(one) for one in weights]
        self.norms = [math.sqrt(min(len(one), one[0].numel())) for one in weights]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for weight, moving, norm in zip(self.weights, self.moving, self.norms, strict=True):
            moving.mul_(self.momentum).add_(weight.grad)
            wanted = weight.grad + self.momentum * moving
            weight.mul_(norm / weight.norm())
            weight.sub_(rate * polar(wanted.reshape(len(weight), -1)).reshape(weight.shape))
            weight.grad = None


def begin(network: nn.Module, samples: Samples, setting: dict[str, Any]) -> None:
    if setting["zero"]:
        for name, layer in network.named_modules():
            if name.endswith("conv2"):
                nn.init.zeros_(layer.weight)
    if setting["whiten"]:
        first = next(one for one in network.modules() if isinstance(one, nn.Conv2d))
        inputs = network.standardise(next(samples.chunks(torch.arange(500))))
        patches = F.unfold(inputs, 3).permute(0, 2, 1).reshape(-1, 27).double()
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        # The eight largest directions, each as it is and turned round.
        best = (vectors / values.sqrt())[:, -8:].T
        with torch.no_grad():
            first.weight.copy_(torch.cat([best, -best]).reshape(16, 3, 3, 3).float())


def crop(images: torch.Tensor, pad: int, generator: torch.Generator) -> torch.Tensor:
    n, height, width, _ = images.shape
    padded = F.pad(images, (0, 0, pad, pad, pad, pad))
    drawn = torch.randint(2 * pad + 1, (2, n, 1), generator=generator)
    rows, columns = torch.arange(height) + drawn[0], torch.arange(width) + drawn[1]
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def train(X, y, X_test, y_test, setting: dict[str, Any]) -> tuple[float, float, float]:
    torch.manual_seed(setting["seed"])
    generator = torch.Generator().manual_seed(setting["seed"])
    layout = resolve_layout(X.shape[1:])
    cpu = torch.device("cpu")
    samples = Samples(X, layout, cpu, torch.float32)
    test = Samples(X_test, layout, cpu, torch.float32)
    labels = torch.as_tensor(y)
    mean, scale = samples.channel_statistics
    network = build_network("wrn-16-1", (3, 32, 32), 10, mean=mean, scale=scale)
    network.to(memory_format=torch.channels_last)
    begin(network, samples, setting)
    weights = [one for one in network.parameters() if one.ndim > 1]
    others = [one for one in network.parameters() if one.ndim <= 1]
    polars: list[nn.Parameter] = []
    if setting["opt"] == "polar":
        polars = [one for one in weights if one.ndim == 4]
        weights = [one for one in weights if one.ndim != 4]
    stepped = PolarStep(polars, setting["momentum_polar"])
    optimizer = torch.optim.SGD(
        [
            {"params": weights, "weight_decay": setting["wd"]},
            {"params": others, "weight_decay": setting["wd"] * setting["wd_norm"]},
        ],
        lr=setting["lr"],
        momentum=setting["momentum"],
        nesterov=True,
    )
    augment = Augmentation(["crop", "flip"])
    flip = Augmentation(["flip"])
    epochs = setting["epochs"]
    batches = ShuffledRows(torch.arange(len(X)), setting["batch"])
    steps_an_epoch = len(batches)
    steps = epochs * steps_an_epoch
    averaged = [one.detach().clone() for one in network.parameters()]
    slow = [one.detach().clone() for one in network.parameters()]
    mirrored = torch.rand(len(X), generator=generator) < 0.5
    started, step = time.perf_counter(), 0
    for epoch in range(epochs):
        network.train()
        total = torch.zeros(())
        for index in batches.epoch(generator):
            stored = samples.stored(index)
            if epoch >= epochs * (1 - setting["plain_end"]):
                stored = flip(stored, generator)
            elif setting["alternate"]:
                turned = (mirrored[index] ^ bool(epoch % 2))[:, None, None, None]
                stored = torch.where(turned, stored.flip(2), stored)
                stored = crop(stored, setting["crop"], generator)
            elif setting["crop"] != 4:
                stored = crop(flip(stored, generator), setting["crop"], generator)
            else:
                stored = augment(stored, generator)
            share = factor(step, steps, setting)
            for group in optimizer.param_groups:
                group["lr"] = setting["lr"] * share
            logits = network(samples.to_inputs(stored))
            loss = F.cross_entropy(logits, labels[index], label_smoothing=setting["smoothing"])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            stepped.step(setting["lr_polar"] * share) if polars else None
            optimizer.step()
            total += loss.detach() * len(index)
            step += 1
            with torch.no_grad():
                if setting["ema"] and step > steps / 2:
                    past = step - steps / 2
                    rate = max(1 / past, 1 / (setting["ema"] * steps_an_epoch))
                    for kept, now in zip(averaged, network.parameters(), strict=True):
                        kept.lerp_(now, min(1.0, rate))
                if setting["lookahead"] and step % setting["lookahead"] == 0:
                    for kept, now in zip(slow, network.parameters(), strict=True):
                        now.copy_(kept.lerp_(now, 0.5))
    if setting["ema"]:
        with torch.no_grad():
            for kept, now in zip(averaged, network.parameters(), strict=True):
                now.copy_(kept)
            norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
            for one in norms:
                one.reset_running_stats()
                one.momentum = None
            for index in torch.arange(min(len(X), 5000)).split(250):
                network(samples.to_inputs(augment(samples.stored(index), generator)))
    seconds = time.perf_counter() - started
    network.eval()
    predicted = compute_logits(network, test).argmax(1).numpy()
    return 100 * float((predicted == y_test).mean()), float(total) / len(X), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True)
    parser.add_argument("queue", type=Path)
    options = parser.parse_args()
    source, out = provenance(), HERE / "rows.jsonl"
    done = {row["setting"] for row in resume_rows(out, ROWS)}
    while True:
        lines = [line.strip() for line in options.queue.read_text().splitlines() if line.strip()]
        waiting = [line for line in lines if line not in done and not line.startswith("#")]
        if not waiting:
            time.sleep(2)
            continue
        line = waiting[0]
        if line == "end":
            return
        setting = read_setting(line)
        X, X_test, y, y_test = load_cifar10(options.data_root, setting["rows"])
        accuracy, loss, seconds = train(X, y, X_test, y_test, setting)
        row = {"setting": line, "CA": accuracy, "loss": loss, "seconds": seconds, **source}
        append_row(out, row)
        done.add(line)
        print(f"{accuracy:.2f} {loss:.3f} {seconds:.0f} s  {line}", flush=True)


if __name__ == "__main__":
    main()
