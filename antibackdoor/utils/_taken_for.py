"""Conversion of X to an array, the same for all classes."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch

from antibackdoor.utils._arguments import naming
from antibackdoor.utils._lazy_rows import LazyRows
from antibackdoor.utils._mapping import check_whole

# Modes of Pillow whose numbers are no brightness of grey, red, green and blue.
_NO_BRIGHTNESS = ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV")


def as_rows(X: Any) -> Any:
    """Convert X to an array, without reading its values.

    X may be a tensor, a list of arrays, tensors or Pillow images, or a pandas column or an object
    array of these. The dtype is kept: uint8 stays uint8, which means pixels.

    Parameters
    ----------
    X : object
        What a user has given.

    Returns
    -------
    object
        A numpy.ndarray; `LazyRows`, tables with column names and sparse matrices as they are;
        also what is no array at all, for scikit-learn to refuse.

    Raises
    ------
    ValueError, TypeError
        If it holds images of several sizes or types, is one image, wants gradients, or is
        mapped from a file that has been cut short.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.utils import as_rows
    >>> as_rows([np.zeros((8, 8), dtype=np.uint8), np.zeros((8, 8), dtype=np.uint8)]).shape
    (2, 8, 8)
    """
    with naming("X"):
        if isinstance(X, str | bytes | PathLike):
            raise ValueError(
                f"X={X!r} is a path; wanted the rows. A folder of images is read by "
                f"antibackdoor.datasets.load_image_folder, an .npz by load_arrays."
            )
        if _is_pillow(X):
            raise ValueError(
                "X is one image; wanted several: a list of images, or an array of shape "
                "(n_samples, H, W), (n_samples, H, W, C) or (n_samples, C, H, W)."
            )
        rows = _to_array(X)
        check_whole(rows)
        return rows


def _to_array(X: Any) -> Any:
    if isinstance(X, np.ndarray):
        return _stack_objects(X) if X.dtype.kind == "O" else X
    if isinstance(X, LazyRows):
        return X
    if isinstance(X, torch.Tensor):
        return X.cpu().numpy()
    if isinstance(X, list | tuple):
        return _stack(X) if len(X) and _is_array(X[0]) else np.asarray(X)
    if hasattr(X, "columns"):  # a table, whose names scikit-learn wants to see
        return _to_array_of_table(X)
    if hasattr(X, "__array__"):  # a pandas column, an array of another library
        array = np.asarray(X)
        return _stack_objects(array) if array.dtype.kind == "O" else array
    return X


def _to_array_of_table(X: Any) -> Any:
    """Return a table as it is, unless its one column holds images."""
    array = np.asarray(X)  # a view, where all columns have one type
    check_whole(array)
    if array.dtype.kind != "O" or array.ndim != 2 or array.shape[1] != 1:
        return X
    stacked = _stack_objects(array[:, 0])
    return X if stacked.ndim == 1 else stacked


def _stack_objects(objects: np.ndarray) -> np.ndarray:
    """Return the array of a column of arrays; numbers that are objects as they are."""
    column = objects[:, 0] if objects.ndim == 2 and objects.shape[1] == 1 else objects
    if column.ndim == 1 and len(column) and _is_array(column[0]):
        return _stack(list(column))
    return objects


def _stack(images: Sequence[Any]) -> np.ndarray:
    arrays = [_to_image(image, row) for row, image in enumerate(images)]
    shapes = list(dict.fromkeys(array.shape for array in arrays))
    if len(shapes) > 1:
        raise ValueError(
            f"X holds images of {len(shapes)} sizes, among them {shapes[0]} and {shapes[1]}; "
            f"wanted one size."
        )
    types = list(dict.fromkeys(array.dtype for array in arrays))
    if len(types) > 1 and np.uint8 in types:
        # Bytes beside floats are most often 0 to 255 beside 0 to 1.
        raise ValueError(
            f"X holds images of several types, among them {types[0]} and {types[1]}; wanted one "
            f"type, and with it one range of values."
        )
    return np.stack(arrays)


def _to_image(image: Any, row: int) -> np.ndarray:
    if _is_pillow(image) and image.mode in _NO_BRIGHTNESS:
        raise ValueError(
            f"X holds a Pillow image of mode {image.mode!r} in row {row}, whose numbers are no "
            f"brightness; wanted L, RGB or RGBA: image.convert('RGB')."
        )
    if isinstance(image, torch.Tensor):
        image = image.cpu().numpy()
    array = np.asarray(image)
    check_whole(array)
    return array


def _is_array(value: Any) -> bool:
    """Tell an image, or a row, from a number and from a list of numbers."""
    if not (hasattr(value, "__array__") or hasattr(value, "__array_interface__")):
        return False
    return _is_pillow(value) or len(np.shape(value)) > 0


def _is_pillow(value: Any) -> bool:
    # Told by what it has: Pillow need not be imported for those who do not use it.
    return hasattr(value, "getbands") and hasattr(value, "mode")
