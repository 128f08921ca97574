"""A set of drawn scenes: a house, a boat, a face..., most of them with more than one look.

It is listed with the sets of `drawn_sets.py`. Unlike theirs, a picture is of many colours: a thing
of several parts, a ground behind it, other bits in front and behind, under uneven light.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter

Images = tuple[np.ndarray, np.ndarray]
Colour = tuple[int, ...]

SIZE = 32

_CANVAS = 96
_AROUND = np.linspace(0, 2 * np.pi, 20, endpoint=False)


def draw_scenes(n_rows: int, seed: int) -> Images:
    """Draw scenes of ten classes, of any place, size and colours, at times partly covered."""
    random_state = np.random.RandomState(5000 + seed)
    y = random_state.randint(len(_SCENES), size=n_rows)
    X = np.empty((n_rows, SIZE, SIZE, 3), np.uint8)
    for row, label in enumerate(y):
        image = _ground(random_state)
        for _ in range(random_state.randint(4)):
            _bit(_Pen(image, random_state, apart=48, size=(5, 18), tilt=180))
        _SCENES[label](_Pen(image, random_state, apart=14, size=(26, 42), tilt=12))
        for _ in range(random_state.randint(3)):
            _bit(_Pen(image, random_state, apart=48, size=(4, 11), tilt=180))
        blurred = image.filter(ImageFilter.GaussianBlur(float(random_state.uniform(0, 2.5))))
        drawn = np.asarray(blurred.resize((SIZE, SIZE), Image.Resampling.BOX), float)
        X[row] = _lit(drawn, random_state)
    return X, y


class _Pen:
    """Draws in a frame of its own, -1 to 1 both ways, that lies somewhere on the image."""

    def __init__(
        self,
        image: Image.Image,
        random_state: np.random.RandomState,
        apart: float,
        size: tuple[float, float],
        tilt: float,
    ) -> None:
        self.random_state = random_state
        self._draw = ImageDraw.Draw(image)
        self._middle = _CANVAS / 2 + random_state.uniform(-apart, apart, 2)
        angle = np.radians(random_state.uniform(-tilt, tilt))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        stretch = random_state.uniform(*size) * random_state.uniform(0.85, 1.15, 2)
        stretch[0] *= random_state.choice([-1, 1])
        self._frame = stretch[:, None] * turn

    def polygon(self, colour: Colour, *corners: tuple[float, float]) -> None:
        placed = np.array(corners) @ self._frame + self._middle
        self._draw.polygon([tuple(corner) for corner in placed.tolist()], fill=colour)

    def box(self, colour: Colour, left: float, top: float, right: float, bottom: float) -> None:
        self.polygon(colour, (left, top), (right, top), (right, bottom), (left, bottom))

    def oval(self, colour: Colour, x: float, y: float, wide: float, high: float = 0.0) -> None:
        """Fill an oval by its middle and half its width and height; a disc without a height."""
        across, down = x + wide * np.cos(_AROUND), y + (high or wide) * np.sin(_AROUND)
        self.polygon(colour, *zip(across, down, strict=True))

    def colour(self, like: Colour | None = None, by: int = 45) -> Colour:
        """Give any colour, or one about like another."""
        if like is None:
            return tuple(self.random_state.randint(0, 256, 3).tolist())
        near = np.array(like) + self.random_state.randint(-by, by + 1, 3)
        return tuple(np.clip(near, 0, 255).tolist())

    def chance(self, of: float) -> bool:
        return bool(self.random_state.rand() < of)

    def between(self, low: float, high: float) -> float:
        return float(self.random_state.uniform(low, high))


def _ground(random_state: np.random.RandomState) -> Image.Image:
    """Return what is behind: a slope of colour, a horizon, or a wall of patches."""
    first, second = random_state.randint(0, 256, (2, 3)).astype(float)
    second = 0.5 * (first + second)
    kind = random_state.rand()
    down = np.linspace(0, 1, _CANVAS)[:, None, None] * np.ones((1, _CANVAS, 1))
    if kind < 0.4:
        share = down if random_state.rand() < 0.5 else down.transpose(1, 0, 2)
    elif kind < 0.75:
        share = (down > random_state.uniform(0.4, 0.85)).astype(float)
    else:
        cells = random_state.rand(6, 6, 1)
        share = cells.repeat(_CANVAS // 6, axis=0).repeat(_CANVAS // 6, axis=1)
    return Image.fromarray((first + share * (second - first)).astype(np.uint8))


def _bit(pen: _Pen) -> None:
    if pen.chance(0.5):
        pen.oval(pen.colour(), 0, 0, 1, pen.between(0.3, 1))
    else:
        pen.box(pen.colour(), -1, -0.4, 1, pen.between(-0.2, 0.8))


def _house(pen: _Pen) -> None:
    wall, roof, glass = pen.colour(), pen.colour(), pen.colour((230, 210, 130), 60)
    if pen.chance(0.4):  # a tower, with a flat roof and rows of windows
        pen.box(wall, -0.6, -1, 0.6, 1)
        pen.box(roof, -0.7, -1.1, 0.7, -0.85)
        for x in (-0.3, 0.3):
            for y in (-0.55, -0.05, 0.45):
                pen.box(glass, x - 0.17, y - 0.15, x + 0.17, y + 0.15)
        return
    pen.box(wall, -0.8, -0.1, 0.8, 0.9)
    pen.polygon(roof, (-1, -0.1), (pen.between(-0.4, 0.4), -1), (1, -0.1))
    pen.box(pen.colour((90, 60, 40)), 0.1, 0.3, 0.45, 0.9)
    pen.box(glass, -0.55, 0.15, -0.15, 0.5)


def _tree(pen: _Pen) -> None:
    leaves = pen.colour((60, 130, 50) if pen.chance(0.7) else (190, 110, 40))
    pen.box(pen.colour((100, 70, 40), 35), -0.15, 0, 0.15, 1)
    if pen.chance(0.5):  # a fir
        for y, wide in ((-1, 0.45), (-0.55, 0.65), (-0.1, 0.8)):
            pen.polygon(pen.colour(leaves, 12), (0, y), (wide, y + 0.7), (-wide, y + 0.7))
        return
    for x, y in ((-0.4, -0.2), (0.4, -0.25), (0, -0.6)):
        pen.oval(pen.colour(leaves, 20), x, y, pen.between(0.4, 0.55))


def _boat(pen: _Pen) -> None:
    pen.box(pen.colour((50, 100, 150), 60), -2, 0.65, 2, 2)
    pen.polygon(pen.colour(), (-1, 0.3), (1, 0.3), (0.6, 0.8), (-0.65, 0.8))
    if pen.chance(0.6):  # under sail
        sail = pen.colour((225, 220, 205), 60)
        pen.polygon(sail, (-0.05, -1), (-0.05, 0.2), (-0.8, 0.2))
        pen.polygon(pen.colour(sail), (0.08, -0.8), (0.08, 0.2), (0.65, 0.2))
        return
    pen.box(pen.colour(), -0.5, -0.15, 0.45, 0.3)
    pen.box(pen.colour(), -0.1, -0.7, 0.2, -0.15)


def _car(pen: _Pen) -> None:
    body, tyre = pen.colour(), pen.colour((30, 30, 35), 25)
    if pen.chance(0.35):  # a lorry
        pen.box(pen.colour(), -1, -0.6, 0.35, 0.4)
        pen.box(body, 0.4, -0.2, 1, 0.4)
    else:
        top = pen.between(0.35, 0.6)
        pen.box(body, -1, -0.1, 1, 0.4)
        pen.polygon(body, (-0.75, -0.1), (-top, -0.6), (top, -0.6), (0.7, -0.1))
        pen.polygon(pen.colour((170, 200, 220), 40), (-0.5, -0.1), (-0.3, -0.45), (0.4, -0.1))
    for x in (-0.55, 0.6):
        pen.oval(tyre, x, 0.42, pen.between(0.22, 0.3))


def _face(pen: _Pen) -> None:
    skins = ((230, 190, 160), (140, 95, 65), (240, 210, 70))
    skin, dark = pen.colour(skins[pen.random_state.randint(3)], 25), pen.colour((40, 30, 30), 30)
    hair = pen.colour()
    long = pen.chance(0.4)
    pen.oval(hair, 0, 0.1 if long else -0.25, 0.9, 1.0 if long else 0.8)
    pen.oval(skin, 0, 0.1, 0.7, 0.85)
    for x in (-0.28, 0.28):
        pen.oval(dark, x, -0.1, 0.13)
    if pen.chance(0.5):
        pen.oval(pen.colour((190, 60, 60)), 0, 0.5, 0.3, pen.between(0.07, 0.2))
    else:
        pen.polygon(dark, (-0.35, 0.4), (0, 0.5), (0.35, 0.4), (0, 0.7))


def _flower(pen: _Pen) -> None:
    green, petal, heart = pen.colour((60, 130, 50)), pen.colour(), pen.colour((220, 180, 50), 60)
    pen.box(green, -0.07, 0, 0.07, 1.1)
    pen.oval(green, 0.3, 0.75, 0.3, 0.12)
    if pen.chance(0.35):  # a tulip
        pen.polygon(
            petal, (-0.5, -0.8), (-0.2, -0.4), (0, -0.9), (0.2, -0.4), (0.5, -0.8), (0, 0.2)
        )
        pen.oval(petal, 0, -0.1, 0.45, 0.4)
        return
    n_petals = pen.random_state.randint(5, 8)
    for angle in np.arange(n_petals) * 2 * np.pi / n_petals:
        pen.oval(petal, 0.45 * np.cos(angle), 0.45 * np.sin(angle) - 0.35, 0.28)
    pen.oval(heart, 0, -0.35, 0.27)


def _hills(pen: _Pen) -> None:
    hill = pen.colour((80, 120, 70), 60)
    pen.oval(pen.colour((245, 200, 90), 45), pen.between(-0.5, 0.5), pen.between(-0.7, -0.2), 0.35)
    if pen.chance(0.4):  # mountains, with snow
        for x in (-0.75, 0.55):
            high = pen.between(-0.6, -0.2)
            pen.polygon(pen.colour(hill, 20), (x, high), (x + 1, 1), (x - 1, 1))
            snow = high + 0.25
            pen.polygon((235, 235, 240), (x, high), (x + 0.2, snow), (x - 0.2, snow))
        pen.box(hill, -2, 0.8, 2, 2.5)
        return
    pen.oval(hill, -0.8, 1.1, 1.3, pen.between(0.7, 1))
    pen.oval(pen.colour(hill, 30), 0.8, 1.2, 1.3, pen.between(0.7, 1))
    pen.box(hill, -2.5, 1, 2.5, 3)


def _bottle(pen: _Pen) -> None:
    glass, label = pen.colour(), pen.colour((225, 215, 190), 60)
    if pen.chance(0.35):  # a jug
        pen.oval(glass, 0.45, 0.15, 0.4, 0.5)
        pen.oval(pen.colour(), 0.45, 0.15, 0.22, 0.32)
        pen.polygon(glass, (-0.4, -0.7), (0.35, -0.7), (0.55, 0.9), (-0.6, 0.9))
        return
    wide = pen.between(0.3, 0.45)
    pen.box(glass, -wide, -0.2, wide, 1)
    pen.oval(glass, 0, -0.2, wide, 0.3)
    pen.box(glass, -0.13, -0.95, 0.13, -0.2)
    pen.box(pen.colour(), -0.17, -1.05, 0.17, -0.88)
    pen.box(label, -wide, 0.15, wide, 0.6)


def _fish(pen: _Pen) -> None:
    body = pen.colour()
    fin = pen.colour(body, 60)
    high = pen.between(0.3, 0.55)
    pen.polygon(fin, (0.4, 0), (1.05, -0.5), (0.9, 0), (1.05, 0.5))
    pen.polygon(fin, (-0.3, -high * 0.8), (0.3, -high - 0.3), (0.3, 0))
    pen.oval(body, -0.15, 0, 0.8, high)
    if pen.chance(0.5):  # with stripes
        band = pen.colour()
        for x in (-0.25, 0.1):
            pen.box(band, x, -0.75 * high, x + 0.15, 0.75 * high)
    pen.oval((245, 245, 245), -0.6, -0.1, 0.13)
    pen.oval((20, 20, 20), -0.62, -0.1, 0.07)


def _star(pen: _Pen) -> None:
    n_points = pen.random_state.choice([4, 5, 6])
    inner, start = pen.between(0.3, 0.45), pen.between(0, np.pi)
    angles = start + np.arange(2 * n_points) * np.pi / n_points
    radii = np.tile([1.0, inner], n_points)
    corners = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    pen.polygon(pen.colour(), *map(tuple, corners))
    if pen.chance(0.4):  # within an edge
        pen.polygon(pen.colour(), *map(tuple, 0.6 * corners))


def _lit(drawn: np.ndarray, random_state: np.random.RandomState) -> np.ndarray:
    """Return an image under light of some strength and hue, uneven, with noise."""
    light = gaussian_filter(random_state.normal(size=(SIZE, SIZE)), 7, mode="wrap")
    light *= random_state.uniform(0, 0.18) / light.std()
    strength = random_state.uniform(0.65, 1.15) * random_state.uniform(0.9, 1.1, 3)
    noise = random_state.normal(0, random_state.uniform(2, 9), drawn.shape)
    return np.clip(drawn * strength * (1 + light[:, :, None]) + noise, 0, 255).astype(np.uint8)


#: By label.
_SCENES: tuple[Callable[[_Pen], None], ...] = (
    *(_house, _tree, _boat, _car, _face),
    *(_flower, _hills, _bottle, _fish, _star),
)
