"""What X and y are taken for, everywhere alike: arrays, of whatever kind they are given as."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

from antibackdoor.utils._arguments import naming
from antibackdoor.utils._lazy_rows import LazyRows
from antibackdoor.utils._mapping import check_whole

# Modes of Pillow whose numbers are no brightness of grey, red, green and blue.
_NO_BRIGHTNESS = ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV")

# Types that stand for a label that is not there: of Python and of pandas.
_MISSING = ("NoneType", "NAType", "NaTType")


def as_rows(X: Any) -> Any:
    """Return X as the array that it stands for, its values not looked at.

    A tensor, a list of arrays, of tensors or of Pillow images, and a pandas column or an object
    array of such are the same as the array of these values in the same type: uint8 stays uint8,
    which is taken for pixels.

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
    """
    with naming("X"):
        if _is_pillow(X):
            raise ValueError(
                "X is one image; wanted several: a list of images, or an array of shape "
                "(n_samples, H, W), (n_samples, H, W, C) or (n_samples, C, H, W)."
            )
        rows = _to_array(X)
        check_whole(rows)
        return rows


def as_labels(y: Any, name: str = "y") -> np.ndarray:
    """Return labels as an array of their own type.

    Whole numbers, numbers and bools in an object array (pandas has many) are those of the
    plain array. Text stays as it is.

    Parameters
    ----------
    y : array-like
        What a user has given, of any shape.
    name : str, default="y"
        Of the argument.

    Returns
    -------
    numpy.ndarray of the same shape

    Raises
    ------
    ValueError
        If a label is missing (None, nan and pandas' NA), if labels of several kinds are mixed,
        or they are mapped from a file that has been cut short.
    """
    with naming(name):
        if isinstance(y, torch.Tensor):
            y = y.cpu().numpy()
        labels = _label_list(y) if isinstance(y, list | tuple) else np.asarray(y)
        check_whole(labels, name)
        return _of_one_kind(labels, name) if labels.dtype.kind == "O" else labels


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


def _label_list(y: Sequence[Any]) -> np.ndarray:
    """Return a list as an array; numpy would write numbers beside text as text."""
    labels = np.asarray(y)
    if labels.dtype.kind != "U" or labels.ndim != 1 or len(labels) == 0:
        return labels
    objects = np.empty(len(y), dtype=object)
    objects[:] = y
    _of_one_kind(objects, "y")
    return labels


def _of_one_kind(labels: np.ndarray, name: str) -> np.ndarray:
    kinds: dict[type, list[str]] = {}
    types = set(map(type, labels.flat))
    gone = any(of.__name__ in _MISSING for of in types)
    if any(issubclass(of, float | np.floating) for of in types):
        gone |= any(label != label for label in labels.flat if isinstance(label, Real))
    if gone:
        raise ValueError(f"{name} lacks labels (None, nan or NA); wanted one for every row.")
    for of in types:
        kinds.setdefault(_kind(of), []).append(of.__name__)
    if set(kinds) == {Integral, Real}:
        return labels.astype(np.float64)
    if len(kinds) > 1:
        names = ", ".join(sorted(set().union(*kinds.values())))
        raise ValueError(f"{name} mixes labels of several kinds: {names}; wanted one kind.")
    kind = next(iter(kinds), object)
    if kind is Integral:
        return _whole_numbers(labels, name)
    return labels.astype({bool: np.bool_, Real: np.float64}.get(kind, labels.dtype))


def _kind(of: type) -> type:
    if issubclass(of, bool | np.bool_):
        return bool
    return next((kind for kind in (Integral, Real, str) if issubclass(of, kind)), of)


def _whole_numbers(labels: np.ndarray, name: str) -> np.ndarray:
    numbers = np.array([int(label) for label in labels.flat]).reshape(labels.shape)
    if numbers.dtype.kind not in "iu":
        raise ValueError(f"{name} holds whole numbers that are too large for 64 bits.")
    return numbers
