"""Which label an attacker wants for a triggered row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import column_or_1d

LabelMap = Callable[[np.ndarray, np.ndarray, Any], np.ndarray]


def all_to_one(codes: np.ndarray, classes: np.ndarray, target_label: Any) -> np.ndarray:
    """Send every class to the target."""
    return np.full_like(codes, find_class(classes, target_label))


def all_to_all(codes: np.ndarray, classes: np.ndarray, target_label: Any) -> np.ndarray:
    """Send the k-th class to the one after it, and the last to the first."""
    return (codes + 1) % len(classes)


#: A label map works on positions in the sorted classes: ``map(codes, classes, target_label)``.
LABEL_MAPS: dict[str, LabelMap] = {"all_to_all": all_to_all, "all_to_one": all_to_one}


def find_class(classes: np.ndarray, target_label: Any) -> int:
    """Return the position of `target_label` among the sorted `classes`."""
    known = classes.tolist()
    if np.ndim(target_label) != 0 or target_label not in known:
        raise ValueError(
            f"target_label={target_label!r} is no class of y; the classes are {_shorten(known)}."
        )
    return known.index(target_label)


def holds_labels(y: ArrayLike) -> bool:
    """Tell labels from the continuous targets of a regression."""
    values = np.asarray(y)
    if values.dtype.kind != "f":
        return True
    return bool(np.isfinite(values).all() and (values == np.rint(values)).all())


def check_labels(y: ArrayLike) -> np.ndarray:
    """Return `y` as a one-dimensional array of class labels."""
    labels = column_or_1d(y)
    if len(labels) == 0:
        raise ValueError("y is empty; wanted one class label for every row.")
    if not holds_labels(labels):
        raise ValueError(
            "y holds numbers that are not whole, or NaN; wanted class labels: whole numbers, "
            "strings or booleans."
        )
    return labels


def find_classes(y: ArrayLike) -> np.ndarray:
    """Return the sorted classes of `y`."""
    try:
        return np.unique(np.asarray(y))
    except TypeError as error:
        raise ValueError(f"y mixes labels that cannot be sorted together: {error}.") from error


def encode(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return each label's position among the sorted `classes`."""
    known = set(classes.tolist())
    unknown = [label for label in find_classes(labels).tolist() if label not in known]
    if unknown:
        raise ValueError(
            f"y holds labels that are no class: {_shorten(unknown)}; the classes are "
            f"{_shorten(classes.tolist())}."
        )
    return np.searchsorted(classes, labels)


def decode(codes: np.ndarray, classes: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Undo `encode`, in `dtype` unless that would cut a string or wrap a number."""
    wide = classes[codes]
    narrow = wide.astype(dtype)
    return narrow if np.array_equal(narrow, wide) else wide


def _shorten(labels: list[Any], most: int = 20) -> str:
    if len(labels) <= most:
        return str(labels)
    return f"{str(labels[:most])[:-1]}, ...] ({len(labels)} in all)"
