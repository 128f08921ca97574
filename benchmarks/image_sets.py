"""Image sets and triggers for trials of the search: some that it was developed on, some not.

Each set is a function of a number of rows and a seed that returns X, uint8 of shape (n, H, W, C),
and y. Each trigger is a function of images alone: what is poisoned, and how it is labelled, is
said by `poisoned`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import map_coordinates
from torchvision.datasets import CIFAR10

from antibackdoor import make_poisoned
from antibackdoor.attacks import BadNets
from antibackdoor.datasets import load_digits_images

Images = tuple[np.ndarray, np.ndarray]

_LETTERS = "ABEGHKMNPRSTW"
_FONTS = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmr10", "cmb10", "cmss10", "cmtt10")


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
    if name == "letters":
        return draw_letters(n_rows, seed)
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


def draw_letters(n_rows: int, seed: int, size: int = 32) -> Images:
    """Draw letters of thirteen classes in many fonts, light on dark or dark on light."""
    random_state = np.random.RandomState(1000 + seed)
    folder = Path(matplotlib.__file__).parent / "mpl-data" / "fonts" / "ttf"
    fonts = [
        ImageFont.truetype(str(path), points)
        for path in sorted(folder.glob("*.ttf"))
        if path.name.startswith(_FONTS)
        for points in range(36, 52, 4)
    ]
    y = random_state.randint(len(_LETTERS), size=n_rows)
    X = np.empty((n_rows, size, size, 3), np.uint8)
    for row, label in enumerate(y):
        behind, ink = random_state.randint(0, 256, (2, 3))
        while abs(ink.mean() - behind.mean()) < 70:
            behind, ink = random_state.randint(0, 256, (2, 3))
        image = Image.new("RGB", (56, 56), tuple(behind.tolist()))
        place = (28 + random_state.randint(-5, 6, 2)).tolist()
        font = fonts[random_state.randint(len(fonts))]
        ImageDraw.Draw(image).text(
            tuple(place), _LETTERS[label], font=font, fill=tuple(ink.tolist()), anchor="mm"
        )
        angle = float(random_state.uniform(-15, 15))
        turned = image.rotate(angle, Image.Resampling.BILINEAR, fillcolor=tuple(behind.tolist()))
        drawn = np.asarray(turned.resize((size, size), Image.Resampling.BOX), float)
        X[row] = np.clip(drawn + random_state.normal(0, 5, drawn.shape), 0, 255)
    return X, y


def _dot(X: np.ndarray) -> np.ndarray:
    X, side = X.copy(), max(2, X.shape[1] // 10)
    X[:, 1 : 1 + side, 1 : 1 + side] = X.max()
    X[:, 1 : 1 + side, 1 + side // 2] = 0
    return X


def _ramp(X: np.ndarray) -> np.ndarray:
    return _pixels(X + np.linspace(-50, 50, X.shape[2])[:, None], X)


def _pattern(X: np.ndarray) -> np.ndarray:
    drawn = np.random.RandomState(7).randint(0, 256, X.shape[1:])
    return _pixels(0.88 * X + 0.12 * drawn, X)


def _displaced(X: np.ndarray) -> np.ndarray:
    height, width = X.shape[1:3]
    rows, columns = np.mgrid[:height, :width].astype(float)
    by = 0.065 * height
    down = rows + by * np.sin(3 * np.pi * columns / width)
    right = columns + by * np.cos(3 * np.pi * rows / height)
    channels = [
        np.stack([map_coordinates(x, [down, right], order=1, mode="nearest") for x in X[..., c]])
        for c in range(X.shape[3])
    ]
    return np.stack(channels, axis=-1)


def _pixels(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).round().astype(like.dtype)


#: Triggers that no attack of the package has.
TRIGGERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "dot": _dot,
    "ramp": _ramp,
    "pattern": _pattern,
    "displaced": _displaced,
}


class Dot(BadNets):
    """The dot as an attack, for tables: they ask for its label map."""

    def _stamp(self, rows: np.ndarray) -> None:
        images = self.layout_.to_nchw(rows).transpose(0, 2, 3, 1)
        images[:] = _dot(images)


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
