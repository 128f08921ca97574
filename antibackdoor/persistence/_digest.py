"""A digest of a model's state: shows that weights were swapped or changed in the file."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np

from antibackdoor.persistence._types import VALUES


def digest_of(state: dict[str, Any]) -> str:
    """Return the SHA-256 of a state, as hexadecimal digits.

    No signature: who changes a file on purpose can write the digest that fits. It finds
    what went wrong on the way, which the archive's own checksums of single arrays do not:
    arrays in each other's place.

    Parameters
    ----------
    state : dict
        Of plain values, arrays, random states and the frozen dataclasses of this package.

    Returns
    -------
    str

    Raises
    ------
    TypeError
        If it holds anything else.
    """
    digest = hashlib.sha256()
    _add(digest, state)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    # Each value says its type and its length, so that no two states give the same bytes.
    kind = type(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        array = np.asarray(value)
        _head(digest, kind.__name__, f"{array.dtype.str}{array.shape}")
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    elif isinstance(value, np.ndarray):
        # A row of lists is not a table; in files of before, all are rows.
        name = "objects" if value.ndim == 1 else f"objects{value.shape}"
        _add_items(digest, name, value.reshape(-1).tolist())
    elif kind is dict:
        _add_items(digest, "dict", [item for pair in value.items() for item in pair])
    elif kind in (list, tuple):
        _add_items(digest, kind.__name__, value)
    elif isinstance(value, np.random.RandomState):
        _head(digest, "RandomState", "")
        _add(digest, value.get_state(legacy=False))
    elif kind in VALUES.values():
        _head(digest, kind.__name__, "")
        _add(
            digest, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        )
    elif value is None or kind in (bool, int, float, str):
        _head(digest, kind.__name__, repr(value))
    else:
        raise TypeError(f"it holds a {kind.__module__}.{kind.__qualname__}")


def _add_items(digest: Any, name: str, items: Any) -> None:
    _head(digest, name, str(len(items)))
    for item in items:
        _add(digest, item)


def _head(digest: Any, kind: str, text: str) -> None:
    encoded = text.encode("utf-8", "surrogatepass")
    digest.update(f"{kind}:{len(encoded)}:".encode())
    digest.update(encoded)
