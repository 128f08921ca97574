"""Conversion of the values of a model's state to nodes and tensors of a file."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from antibackdoor.persistence._budget import BYTES_OF_A_LABEL, check_budget
from antibackdoor.persistence._types import PARTS, VALUES
from antibackdoor.training._pack import Node

#: Dtypes of torch and safetensors. Other plain arrays are stored as bytes.
_NATIVE = {
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
}

#: Booleans, whole numbers, floats, bytes and text, as numpy writes their types.
_PLAIN_DTYPE = re.compile(r"[<>|][biufSU][0-9]{1,9}")

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_node(value: Any) -> Any:
    """Convert a value to its form in a file, for `pack`.

    Raises
    ------
    TypeError
        If it is an array that no file holds, or an object of a class that none may name.
    """
    kind = type(value)
    if isinstance(value, np.generic):
        return Node("scalar", np.asarray(value))
    if isinstance(value, np.ndarray):
        return _array_to_node(value)
    if kind is float and not math.isfinite(value):
        return Node("float", str(value))
    if kind is np.random.RandomState:
        return Node("RandomState", value.get_state(legacy=False))
    if kind in VALUES.values():
        return Node(kind.__name__, dict(vars(value)))
    if kind in PARTS.values():
        return Node(kind.__name__, value.get_params(deep=False))
    if value is not None and kind not in (bool, int, float, str, dict, list, tuple):
        raise TypeError(f"it holds a {kind.__module__}.{kind.__qualname__}")
    return value


def _array_to_node(array: np.ndarray) -> Any:
    if array.dtype == object:
        if array.ndim != 1 or not all(type(item) is str for item in array):
            raise TypeError("it holds an array of objects that are no row of texts")
        return Node("texts", array.tolist())
    # Not `ascontiguousarray`, which gives an array without axes one.
    array = np.array(array, order="C")
    if array.dtype.name in _NATIVE and array.dtype.isnative:
        return torch.from_numpy(array)
    if not _PLAIN_DTYPE.fullmatch(array.dtype.str) or not array.dtype.itemsize:
        raise TypeError(f"it holds an array of {array.dtype}")
    raw = np.frombuffer(array.tobytes(), np.uint8)
    return Node("array", (array.dtype.str, array.shape, raw))


def make_reader(max_bytes: int, writer: str) -> Callable[[Node], Any]:
    """Return a function that converts the nodes of a file to values, for `unpack`.

    Parameters
    ----------
    max_bytes : int
        Memory that the items of its arrays of text may take.
    writer : str
        Which version wrote the file, for messages.
    """
    n_labels = 0

    def from_node(node: Node) -> Any:
        nonlocal n_labels
        kind, content = node.kind, node.content
        if kind in VALUES:
            names = [field.name for field in dataclasses.fields(VALUES[kind])]
            if not isinstance(content, dict) or sorted(content) != sorted(names):
                raise ValueError(f"its {kind} has other fields than {names}")
            return VALUES[kind](**content)
        if kind in PARTS:
            return _part(kind, content, writer)
        if kind not in _READERS:
            raise ValueError(
                f"it names the type {kind[:80]!r}, which no model of antibackdoor needs"
            )
        value = _READERS[kind](content)
        if isinstance(value, np.ndarray) and value.dtype.kind in "SU":
            n_labels += value.size
            check_budget("its labels take", n_labels * BYTES_OF_A_LABEL, max_bytes)
        return value

    return from_node


def _part(kind: str, content: Any, writer: str) -> Any:
    if not isinstance(content, dict):
        raise ValueError(f"its {kind} has no parameters, but {type(content).__name__}")
    part: Any = PARTS[kind]
    check_known(kind, content, part._get_param_names(), writer)
    return part(**content)


def check_known(kind: str, names: Any, known: Any, writer: str) -> None:
    """Refuse parameters that a class does not have.

    Raises
    ------
    ValueError
        If there are any; it says which version wrote them.
    """
    gone = [str(name)[:80] for name in names if name not in known]
    if gone:
        raise ValueError(
            f"it was written by {writer}, whose {kind} had the parameters {gone[:9]}, which this "
            f"version does not have"
        )


def _read_float(content: Any) -> float:
    if not isinstance(content, str) or content not in _NOT_FINITE:
        raise ValueError(f"it has a float that is {str(content)[:40]!r}; wanted nan or inf")
    return _NOT_FINITE[content]


def _read_scalar(content: Any) -> Any:
    if not isinstance(content, np.ndarray) or content.shape != ():
        raise ValueError("it has a number that is no array without axes")
    return content[()]


def _read_texts(content: Any) -> np.ndarray:
    if not isinstance(content, list) or not all(type(item) is str for item in content):
        raise ValueError("it has a row of texts that are none")
    return np.array(content, dtype=object)


def _read_array(content: Any) -> np.ndarray:
    """Make an array of a type that no tensor has."""
    if not isinstance(content, tuple) or len(content) != 3:
        raise ValueError("it has an array without type, shape and bytes")
    name, shape, raw = content
    if not isinstance(name, str) or not _PLAIN_DTYPE.fullmatch(name):
        raise ValueError(f"it has an array of {str(name)[:40]!r}; wanted plain numbers or text")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"it has an array that claims the shape {str(shape)[:80]}")
    if not isinstance(raw, np.ndarray) or raw.dtype != np.uint8 or raw.ndim != 1:
        raise ValueError("it has an array whose bytes are none")
    dtype = np.dtype(name)
    if not dtype.itemsize:
        raise ValueError(f"it has an array of {name}, whose values have no width")
    if math.prod(shape) * dtype.itemsize != raw.size:
        raise ValueError(
            f"it has an array that claims the shape {str(shape)[:80]} of {name}, and holds "
            f"{raw.size} bytes"
        )
    return raw.view(dtype).reshape(shape)


def _read_random_state(content: Any) -> np.random.RandomState:
    random_state = np.random.RandomState()
    random_state.set_state(content)
    return random_state


_READERS: dict[str, Callable[[Any], Any]] = {
    "RandomState": _read_random_state,
    "array": _read_array,
    "float": _read_float,
    "scalar": _read_scalar,
    "texts": _read_texts,
}
