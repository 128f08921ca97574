"""Validation and comparison of labels of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Number, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils import column_or_1d

from antibackdoor.utils._arguments import naming
from antibackdoor.utils._mapping import check_whole

#: What the labels of a dtype are. True is 1 and False 0, as for scikit-learn.
_KINDS = {"U": "text", "S": "bytes", **dict.fromkeys("biufc", "numbers")}

_WANTED = "wanted one label a row: text, bytes, numbers or booleans"


def as_labels(argument: str, values: Any, *, any_shape: bool = False) -> np.ndarray:
    """Return labels as an array of one kind, in its own type.

    Parameters
    ----------
    argument : str
        Its name, for the message.
    values : array-like of shape (n,)
        A list, an array, a series or a tensor. Objects are taken for what they are: whole numbers,
        numbers and booleans in an object array are those of the plain array.
    any_shape : bool, default=False
        Leave the shape to the caller to look at, where it need not be a column.

    Returns
    -------
    numpy.ndarray of shape (n,)

    Raises
    ------
    ValueError
        If labels are missing (None, NaN), of several kinds, no column, or mapped from a file that
        has been cut short.
    TypeError
        If they are none of text, bytes, numbers and booleans.

    Examples
    --------
    >>> from antibackdoor.utils import as_labels
    >>> as_labels("y", ["cat", "dog"])
    array(['cat', 'dog'], dtype='<U3')
    """
    with naming(argument):
        if isinstance(values, torch.Tensor):
            values = values.cpu().numpy()
        labels = np.asarray(values)
        check_whole(labels, argument)
        if not any_shape:
            labels = column_or_1d(labels)
    if isinstance(values, list | tuple) and labels.dtype.kind in "US" and not _is_nested(values):
        # As an array, [0, "1"] is text, and ["a", nan] too.
        _kind_of_objects(argument, values)
    if labels.dtype.kind == "T":  # numpy's text of any length, which not all of numpy takes
        labels = labels.astype(object)
    kind = _kind_of_labels(argument, labels)
    return (
        _plain_numbers(argument, labels) if labels.dtype == object and kind == "numbers" else labels
    )


def _plain_numbers(argument: str, labels: np.ndarray) -> np.ndarray:
    """Return numbers that are objects as an array of booleans, whole numbers or floats."""
    types = set(map(type, labels.flat))
    booleans = {each for each in types if issubclass(each, bool | np.bool_)}
    if booleans and booleans == types:
        return labels.astype(bool)
    if booleans:
        # True and 1 would be one class.
        raise ValueError(f"{argument} mixes booleans and numbers; wanted labels of one kind.")
    if not all(issubclass(each, Integral) for each in types):
        is_complex = any(not issubclass(each, Real) for each in types)
        return labels.astype(np.complex128 if is_complex else np.float64)
    numbers = np.array([int(label) for label in labels.flat]).reshape(labels.shape)
    if labels.size and numbers.dtype.kind not in "iu":
        raise ValueError(f"{argument} holds whole numbers that are too large for 64 bits.")
    return numbers.astype(np.int64) if not labels.size else numbers


def _kind_of_labels(argument: str, labels: np.ndarray) -> str:
    """Return what labels are: ``"text"``, ``"bytes"`` or ``"numbers"``, which booleans are too.

    Raises as `as_labels` does.
    """
    if labels.dtype.kind in "OT":
        return _kind_of_objects(argument, labels.ravel().tolist())
    if labels.dtype.kind not in _KINDS:
        raise TypeError(f"{argument} holds {labels.dtype}; {_WANTED}.")
    if labels.dtype.kind in "fc" and np.isnan(labels).any():
        raise ValueError(f"{argument} holds NaN, which is no label; {_WANTED}.")
    return _KINDS[labels.dtype.kind]


def check_comparable(
    argument: str, labels: np.ndarray, other_argument: str, other: np.ndarray
) -> None:
    """Refuse two arrays of labels that can never be equal, such as text and numbers.

    Parameters
    ----------
    argument, other_argument : str
        Their names, for the message.
    labels, other : numpy.ndarray

    Raises
    ------
    ValueError
        If one holds text and the other numbers, or one of them bytes.
    """
    kind, other_kind = _kind_of_labels(argument, labels), _kind_of_labels(other_argument, other)
    if kind != other_kind and labels.size and other.size:
        raise ValueError(
            f"{argument} holds {kind} ({_example(labels)}) and {other_argument} holds {other_kind} "
            f"({_example(other)}), which are never equal; wanted labels of one kind in both."
        )


def shorten(labels: Sequence[Any], most: int = 20) -> str:
    """Return labels for a message: the first ones, and their number."""
    if len(labels) <= most:
        return str(labels)
    return f"{str(labels[:most])[:-1]}, ...] ({len(labels)} in all)"


def _kind_of_objects(argument: str, values: Sequence[Any]) -> str:
    missing = [value for value in values if _is_missing(value)]
    if missing:
        shown = "NaN" if isinstance(missing[0], Number) else repr(missing[0])
        raise ValueError(f"{argument} holds {shown}, which is no label; {_WANTED}.")
    kinds = sorted({_kind_of_type(argument, each) for each in set(map(type, values))})
    if len(kinds) > 1:
        raise ValueError(f"{argument} mixes {' and '.join(kinds)}; wanted labels of one kind.")
    return kinds[0] if kinds else "numbers"


def _kind_of_type(argument: str, of_label: type) -> str:
    if issubclass(of_label, str):
        return "text"
    if issubclass(of_label, bytes):
        return "bytes"
    if issubclass(of_label, Number | np.bool_):
        return "numbers"
    raise TypeError(f"{argument} holds {of_label.__name__} objects; {_WANTED}.")


def _is_missing(value: Any) -> bool:
    if isinstance(value, Number):
        return bool(value != value)
    # pandas need not be installed: its two are known by their names.
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _is_nested(values: Sequence[Any]) -> bool:
    return any(issubclass(each, list | tuple | np.ndarray) for each in set(map(type, values)))


def _example(labels: np.ndarray) -> str:
    return repr(labels.ravel()[:1].tolist()[0])
