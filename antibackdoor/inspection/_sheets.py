"""Sheets of many small images: a page opens a sheet faster than single images."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from math import ceil, sqrt
from typing import Any

import numpy as np

from antibackdoor.inspection._pixels import to_pixels, value_range
from antibackdoor.utils import ImageLayout, LazyRows

# Single images make a larger file that opens no faster (benchmarks/report_page.py).
_TILES_A_SHEET = 256

# Pixels of all images of a page: with more it would open slowly. Few images are shown in their
# size, up to the longest side, and many large ones smaller.
_MOST_PIXELS = 12_000_000
_LONGEST_SIDE = 256


def make_sheets(
    X: np.ndarray | LazyRows, rows: np.ndarray, layout: ImageLayout, *, in_line: bool = False
) -> dict[str, Any]:
    """Put rows of X as tiles on sheets, row by row.

    Parameters
    ----------
    X : numpy.ndarray or LazyRows of shape (n_samples, *layout.input_shape)
        May be mapped from a file: the rows of one sheet are read at a time.
    rows : numpy.ndarray of shape (n_rows,), int
        Which rows, in the order of the tiles.
    in_line : bool, default=False
        Whether to put all tiles in one line.

    Returns
    -------
    dict
        ``width`` and ``height`` of a tile, ``full_width`` and ``full_height`` of an image in
        X, pixels; ``columns``, tiles in a line; ``per_sheet``, tiles on a sheet, the last of
        which may hold fewer; ``uris``, a PNG each.

    Raises
    ------
    ValueError
        If a row holds NaN or infinity.
    ImportError
        If Pillow is not there.
    """
    image_module = _import_pillow()
    parts = [rows[start : start + _TILES_A_SHEET] for start in range(0, len(rows), _TILES_A_SHEET)]
    ranges = [value_range(np.asarray(X[part])) for part in parts]
    limits = min(low for low, _ in ranges), max(high for _, high in ranges)
    width, height = _tile_size(layout, len(rows))
    columns = len(rows) if in_line else ceil(sqrt(_TILES_A_SHEET))
    uris = []
    for part in parts:
        tiles = [
            image_module.fromarray(pixels).resize((width, height), image_module.Resampling.BOX)
            for pixels in to_pixels(np.asarray(X[part]), layout, limits)
        ]
        size = (columns * width, ceil(len(tiles) / columns) * height)
        sheet = image_module.new(tiles[0].mode, size)
        for number, tile in enumerate(tiles):
            sheet.paste(tile, (number % columns * width, number // columns * height))
        uris.append(_encode(sheet))
    return {
        "width": width,
        "height": height,
        "full_width": layout.width,
        "full_height": layout.height,
        "columns": columns,
        "per_sheet": _TILES_A_SHEET,
        "uris": uris,
    }


def to_uri(pixels: np.ndarray) -> str:
    """Return an image, uint8 (H, W) or (H, W, 3), as a data URI of a PNG, made smaller if large."""
    image = _import_pillow().fromarray(pixels)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return _encode(image)


def _encode(image: Any) -> str:
    file = BytesIO()
    image.save(file, format="PNG")
    return "data:image/png;base64," + b64encode(file.getvalue()).decode("ascii")


def _tile_size(layout: ImageLayout, n_tiles: int) -> tuple[int, int]:
    """Return width and height of a tile: of the image, or smaller by one factor."""
    factor = min(
        1.0,
        _LONGEST_SIDE / max(layout.width, layout.height),
        sqrt(_MOST_PIXELS / (n_tiles * layout.width * layout.height)),
    )
    return max(1, round(layout.width * factor)), max(1, round(layout.height * factor))


def _import_pillow() -> Any:
    try:
        import PIL.Image
    except ImportError as error:
        raise ImportError("write_report needs Pillow for images: pip install pillow.") from error
    return PIL.Image
