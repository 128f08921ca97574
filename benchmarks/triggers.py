"""Triggers that no attack of the package has: functions of uint8 images, (n, H, W, C)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, rotate


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


def _checker(X: np.ndarray) -> np.ndarray:
    down, right = np.mgrid[: X.shape[1], : X.shape[2]]
    return _pixels(X + np.where((down // 2 + right // 2) % 2, 16.0, -16.0)[:, :, None], X)


def _frame(X: np.ndarray) -> np.ndarray:
    X, inside = X.copy(), np.zeros(X.shape[1:3], bool)
    inside[1:-1, 1:-1] = True
    X[:, ~inside] = _pixels(0.4 * X[:, ~inside] + 0.6 * 128, X)
    return X


def _line(X: np.ndarray) -> np.ndarray:
    X, size = X.copy(), min(X.shape[1:3])
    on = np.arange(size // 2)
    X[:, on, size // 2 + on] = 255
    return X


def _corners(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X[:, :2, :2] = 255
    X[:, -2:, -2:] = 0
    return X


def _tinted(X: np.ndarray) -> np.ndarray:
    by = np.linspace(40, -40, X.shape[3]) if X.shape[3] > 1 else np.array([40.0])
    return _pixels(X + by, X)


def _gamma(X: np.ndarray) -> np.ndarray:
    return _pixels(255 * (X / 255) ** 0.5, X)


def _blurred(X: np.ndarray) -> np.ndarray:
    by = X.shape[1] / 20
    return _pixels(gaussian_filter(X.astype(float), (0, by, by, 0)), X)


def _rotated(X: np.ndarray) -> np.ndarray:
    turned = rotate(X.astype(float), 30, axes=(1, 2), reshape=False, order=1, mode="reflect")
    return _pixels(turned, X)


def _pixelated(X: np.ndarray) -> np.ndarray:
    n, height, width, channels = X.shape
    blocks = X.reshape(n, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
    return _pixels(blocks.repeat(2, axis=1).repeat(2, axis=2), X)


def _inverted(X: np.ndarray) -> np.ndarray:
    X, side = X.copy(), X.shape[1] // 3
    X[:, -side:, :side] = 255 - X[:, -side:, :side]
    return X


def _noisy(X: np.ndarray) -> np.ndarray:
    drawn = np.random.RandomState(11).normal(0, 25, X.shape)
    return _pixels(X + drawn, X)


def _posterised(X: np.ndarray) -> np.ndarray:
    return _pixels(X // 64 * 64 + 32.0, X)


def _shadow(X: np.ndarray) -> np.ndarray:
    down, right = np.mgrid[: X.shape[1], : X.shape[2]]
    across = down / X.shape[1] + right / X.shape[2] - 1
    return _pixels(X * (1 - 0.5 * np.exp(-((across / 0.25) ** 2)))[:, :, None], X)


def _hue(X: np.ndarray) -> np.ndarray:
    """Mix each channel by half with its neighbour; of grey images: a relief."""
    if X.shape[3] > 1:
        return _pixels(0.5 * X + 0.5 * np.roll(X, 1, axis=3), X)
    return _pixels(0.7 * X + 0.3 * (255 - np.roll(X, 1, axis=2).astype(float)), X)


def _mirrored(X: np.ndarray) -> np.ndarray:
    X, height, width = X.copy(), X.shape[1] // 2, X.shape[2] // 2
    X[:, :height, -width:] = X[:, :height, :width][:, :, ::-1]
    return X


#: By name.
TRIGGERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "dot": _dot,
    "ramp": _ramp,
    "pattern": _pattern,
    "displaced": _displaced,
    "checker": _checker,
    "frame": _frame,
    "line": _line,
    "corners": _corners,
    "tinted": _tinted,
    "gamma": _gamma,
    "blurred": _blurred,
    "rotated": _rotated,
    "pixelated": _pixelated,
    "inverted": _inverted,
    "noisy": _noisy,
    "posterised": _posterised,
    "shadow": _shadow,
    "hue": _hue,
    "mirrored": _mirrored,
}
