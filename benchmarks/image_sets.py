"""Image sets and triggers for trials of the search: some that it was developed on, some not.

Each set is a function of a number of rows and a seed that returns X, uint8 of shape (n, H, W, C),
and y. Each trigger is a function of images alone: what is poisoned, and how it is labelled, is
said by `poisoned`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from drawn_sets import DRAWN_SETS
from torchvision.datasets import CIFAR10
from triggers import TRIGGERS

from antibackdoor import make_poisoned
from antibackdoor.attacks import BadNets
from antibackdoor.datasets import load_digits_images

Images = tuple[np.ndarray, np.ndarray]


def load(name: str, n_rows: int, seed: int, data_root: str) -> Images:
    """Return a set by name; ``"half-"`` before it: of half the height and width."""
    if name.startswith("half-"):
        X, y = load(name.removeprefix("half-"), n_rows, seed, data_root)
        return _halved(X), y
    if name.startswith("digits"):
        X, y = load_digits_images()
        X = X if X.ndim == 4 else X[..., None]
        only = name.removeprefix("digits").removeprefix("-")
        chosen = np.isin(y, [int(digit) for digit in only]) if only else np.ones(len(y), bool)
        return X[chosen], np.unique(y[chosen], return_inverse=True)[1]
    if name in DRAWN_SETS:
        return DRAWN_SETS[name](n_rows, seed)
    X, y = _cifar10(data_root) if name == "cifar10" else _fashion(data_root)
    rows = np.random.RandomState(seed).permutation(len(X))[:n_rows]
    return X[rows], y[rows]


@cache
def _cifar10(data_root: str) -> Images:
    train = CIFAR10(data_root, train=True)
    return train.data, np.asarray(train.targets)


@cache
def _fashion(data_root: str) -> Images:
    file = np.load(Path(data_root) / "fashion-mnist.npz")
    names = {key.lower(): key for key in file.files}
    images = next(names[key] for key in names if "train" in key and ("x" in key or "image" in key))
    labels = next(names[key] for key in names if "train" in key and ("y" in key or "label" in key))
    return file[images][..., None], file[labels].astype(np.int64)


def _halved(X: np.ndarray) -> np.ndarray:
    n, height, width, channels = X.shape
    blocks = X.reshape(n, height // 2, 2, width // 2, 2, channels)
    return blocks.mean(axis=(2, 4)).round().astype(np.uint8)


class Dot(BadNets):
    """The dot as an attack, for tables: they ask for its label map."""

    def _stamp(self, rows: np.ndarray) -> None:
        images = self.layout_.to_nchw(rows).transpose(0, 2, 3, 1)
        images[:] = TRIGGERS["dot"](images)


def poisoned(
    X: np.ndarray, y: np.ndarray, attack: str, rate: float, seed: int, target: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return X, y and the mask of the poison; ``"none"`` is clean, ``"dot-all-to-all"`` cyclic."""
    mask = np.zeros(len(y), dtype=bool)
    if attack == "none":
        return X, y, mask
    name = attack.removesuffix("-all-to-all")
    if name not in TRIGGERS:
        return make_poisoned(X, y, attack=attack, poison_rate=rate, random_state=seed)
    cyclic = name != attack
    candidates = np.arange(len(y)) if cyclic else np.flatnonzero(y != target)
    rows = np.random.RandomState(77 + seed).permutation(candidates)[: round(rate * len(y))]
    X, y, mask[rows] = X.copy(), y.copy(), True
    X[rows] = TRIGGERS[name](X[rows])
    y[rows] = (y[rows] + 1) % (y.max() + 1) if cyclic else target
    return X, y, mask
