"""Image sets that are drawn: no download, as many rows as are asked for, any seed.

Each is a function of a number of rows and a seed that returns X, uint8 of shape (n, 32, 32, 3), and
y. They are unlike one another and unlike photographs: a search that was developed on some sets is
tried on the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from drawn_scenes import draw_scenes
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.ndimage import gaussian_filter

Images = tuple[np.ndarray, np.ndarray]

SIZE = 32

_LETTERS = "ABEGHKMNPRSTW"
_FONTS = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmr10", "cmb10", "cmss10", "cmtt10")
_SHAPES = ("disc", "square", "triangle", "star", "cross", "ring", "moon", "bars")
_N_TEXTURES = 10


def draw_letters(n_rows: int, seed: int) -> Images:
    """Draw letters of thirteen classes in many fonts, light on dark or dark on light."""
    random_state = np.random.RandomState(1000 + seed)
    fonts = _fonts(range(36, 52, 4))
    y = random_state.randint(len(_LETTERS), size=n_rows)
    X = np.empty((n_rows, SIZE, SIZE, 3), np.uint8)
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
        drawn = np.asarray(turned.resize((SIZE, SIZE), Image.Resampling.BOX), float)
        X[row] = np.clip(drawn + random_state.normal(0, 5, drawn.shape), 0, 255)
    return X, y


def draw_house_numbers(n_rows: int, seed: int) -> Images:
    """Draw digits as on house fronts: a shaded ground, parts of other digits beside, blurred."""
    random_state = np.random.RandomState(2000 + seed)
    fonts = _fonts(range(30, 44, 4))
    y = random_state.randint(10, size=n_rows)
    X = np.empty((n_rows, SIZE, SIZE, 3), np.uint8)
    for row, label in enumerate(y):
        behind, ink = _two_colours(random_state, 60)
        image = Image.new("RGB", (48, 48), tuple(behind.tolist()))
        pen = ImageDraw.Draw(image)
        font = fonts[random_state.randint(len(fonts))]
        middle = 24 + random_state.randint(-3, 4, 2)
        for beside in (-26, 0, 26):
            digit = label if beside == 0 else random_state.randint(10)
            if beside == 0 or random_state.rand() < 0.6:
                place = (int(middle[0] + beside), int(middle[1]))
                pen.text(place, str(digit), font=font, fill=tuple(ink.tolist()), anchor="mm")
        blurred = image.filter(ImageFilter.GaussianBlur(float(random_state.uniform(0, 1.5))))
        drawn = np.asarray(blurred.resize((SIZE, SIZE), Image.Resampling.BOX), float)
        X[row] = _shaded(drawn, random_state)
    return X, y


def draw_shapes(n_rows: int, seed: int) -> Images:
    """Draw shapes of eight classes, of any colour, place, size and angle, among stray lines."""
    random_state = np.random.RandomState(3000 + seed)
    y = random_state.randint(len(_SHAPES), size=n_rows)
    X = np.empty((n_rows, SIZE, SIZE, 3), np.uint8)
    for row, label in enumerate(y):
        behind, ink = _two_colours(random_state, 50)
        image = Image.new("RGB", (96, 96), tuple(behind.tolist()))
        pen = ImageDraw.Draw(image)
        for _ in range(random_state.randint(4)):
            ends = random_state.randint(0, 96, 4).tolist()
            pen.line(ends, fill=tuple(random_state.randint(0, 256, 3).tolist()), width=2)
        middle = 48 + random_state.randint(-16, 17, 2)
        size = float(random_state.uniform(18, 32))
        mask = _shape(_SHAPES[label], middle, size, float(random_state.uniform(0, 360)))
        image.paste(tuple(ink.tolist()), mask=mask)
        drawn = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), float)
        X[row] = _shaded(drawn, random_state)
    return X, y


def draw_textures(n_rows: int, seed: int) -> Images:
    """Draw textures of ten classes, each of any colours, angle and shift."""
    random_state = np.random.RandomState(4000 + seed)
    y = random_state.randint(_N_TEXTURES, size=n_rows)
    X = np.empty((n_rows, SIZE, SIZE, 3), np.uint8)
    for row, label in enumerate(y):
        height = _texture(int(label), random_state)
        dark, light = _two_colours(random_state, 50)
        X[row] = _shaded(dark + height[:, :, None] * (light - dark), random_state)
    return X, y


def _fonts(sizes: range) -> list[ImageFont.FreeTypeFont]:
    folder = Path(matplotlib.__file__).parent / "mpl-data" / "fonts" / "ttf"
    return [
        ImageFont.truetype(str(path), points)
        for path in sorted(folder.glob("*.ttf"))
        if path.name.startswith(_FONTS)
        for points in sizes
    ]


def _two_colours(random_state: np.random.RandomState, apart: int) -> np.ndarray:
    """Return two colours whose mean levels are so far apart at least."""
    colours = random_state.randint(0, 256, (2, 3))
    while abs(colours[0].mean() - colours[1].mean()) < apart:
        colours = random_state.randint(0, 256, (2, 3))
    return colours


def _shaded(drawn: np.ndarray, random_state: np.random.RandomState) -> np.ndarray:
    """Return an image under uneven light, with noise."""
    light = gaussian_filter(random_state.normal(size=drawn.shape[:2]), 8, mode="wrap")
    light *= random_state.uniform(0, 20) / light.std()
    noise = random_state.normal(0, 6, drawn.shape)
    return np.clip(drawn + light[:, :, None] + noise, 0, 255).astype(np.uint8)


def _shape(name: str, middle: np.ndarray, size: float, angle: float) -> Image.Image:
    mask = Image.new("L", (96, 96))
    pen = ImageDraw.Draw(mask)
    box = [*(middle - size).tolist(), *(middle + size).tolist()]

    def polygon(radii: list[float]) -> None:
        around = np.radians(angle + np.arange(len(radii)) * 360 / len(radii))
        corners = middle[:, None] + size * np.array(radii) * np.stack(
            [np.cos(around), np.sin(around)]
        )
        pen.polygon([tuple(corner) for corner in corners.T], fill=255)

    if name in ("disc", "ring", "moon"):
        pen.ellipse(box, fill=255)
        towards = size * 0.5 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        shift = towards if name == "moon" else np.zeros(2)
        hole = size * (0.8 if name == "moon" else 0.55)
        if name != "disc":
            inner = middle + shift
            pen.ellipse([*(inner - hole).tolist(), *(inner + hole).tolist()], fill=0)
    elif name in ("square", "triangle", "star"):
        polygon({"square": [1.0] * 4, "triangle": [1.1] * 3, "star": [1.1, 0.45] * 5}[name])
    else:
        across = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        along = np.array([-across[1], across[0]])
        bars = [(across, 0.0), (along, 0.0)] if name == "cross" else [(across, -0.5), (across, 0.5)]
        for direction, offset in bars:
            start = middle + size * (offset * along - direction)
            end = middle + size * (offset * along + direction)
            pen.line([*start.tolist(), *end.tolist()], fill=255, width=int(size * 0.4))
    return mask


def _texture(label: int, random_state: np.random.RandomState) -> np.ndarray:
    """Return heights of 0 to 1, shape (SIZE, SIZE)."""
    angle = random_state.uniform(0, np.pi)
    down, right = np.mgrid[:SIZE, :SIZE] + random_state.uniform(0, SIZE, 2)[:, None, None]
    across = right * np.cos(angle) + down * np.sin(angle)
    along = down * np.cos(angle) - right * np.sin(angle)
    noise = random_state.normal(size=(SIZE, SIZE))
    if label < 3:  # stripes: wide, narrow, and with a sharp edge
        period = (12, 6, 9)[label]
        wave = np.sin(2 * np.pi * across / period)
        return np.where(wave > 0, 1.0, 0.0) if label == 2 else (1 + wave) / 2
    if label < 5:  # a grid of squares, or of dots
        waves = np.sin(2 * np.pi * across / 10) * np.sin(2 * np.pi * along / 10)
        return np.where(waves > 0, 1.0, 0.0) if label == 3 else np.where(waves > 0.5, 1.0, 0.0)
    if label < 7:  # clouds: coarse and fine
        return _levels(gaussian_filter(noise, (4, 1.5)[label - 5], mode="wrap"))
    if label == 7:  # grain along one way
        return _levels(
            gaussian_filter(noise, (0.5, 4), mode="wrap")
            if angle < np.pi / 2
            else gaussian_filter(noise, (4, 0.5), mode="wrap")
        )
    if label == 8:  # rings
        centre = random_state.uniform(8, 24, 2)
        far = np.hypot(*(np.mgrid[:SIZE, :SIZE] - centre[:, None, None]))
        return (1 + np.sin(2 * np.pi * far / 7)) / 2
    # bricks
    odd = (along // 7) % 2
    joint = ((along % 7) < 1.5) | (((across + 6 * odd) % 12) < 1.5)
    return np.where(joint, 0.0, 1.0)


def _levels(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / np.ptp(values)


#: By name.
DRAWN_SETS: dict[str, Callable[[int, int], Images]] = {
    "letters": draw_letters,
    "numbers": draw_house_numbers,
    "shapes": draw_shapes,
    "textures": draw_textures,
    "scenes": draw_scenes,
}
