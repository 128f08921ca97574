"""Arrays that are mapped from a file, and files that are cut short under them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds


@dataclass(frozen=True)
class Mapping:
    """What an array is mapped from.

    Attributes
    ----------
    array : numpy.memmap or None
        The array that was mapped, of which the other is a view; None where it was mapped by
        another's hand, such as ``numpy.frombuffer(mmap.mmap(...))``.
    """

    file: mmap.mmap
    array: np.memmap | None


def find_mapping(X: object) -> Mapping | None:
    """Return what an array is a view of, however often removed; None if of no mapped file."""
    array = None
    for base in _bases(X):
        if isinstance(base, mmap.mmap):
            return Mapping(base, array)
        # The last one is the array that was mapped: views keep its type and its offset.
        array = base if isinstance(base, np.memmap) else array
    return None


def check_whole(X: object, name: str = "X") -> None:
    """Refuse an array whose file has been cut short: to read it ends the process.

    Parameters
    ----------
    X : object
        Any object; only views of mapped files are checked.
    name : str, default="X"
        Of the argument.

    Raises
    ------
    ValueError
        If the file ends before the array does. What is cut off a moment later is not seen.
    """
    mapping = find_mapping(X)
    if mapping is None or not isinstance(X, np.ndarray) or X.size == 0:
        return
    wanted = _last_byte(X, mapping)
    found = mapping.file.size()
    if found < wanted:
        path = None if mapping.array is None else mapping.array.filename
        raise ValueError(cut_short(path, wanted, found, name))


def cut_short(path: Any, wanted: int, found: int, name: str = "X") -> str:
    """Return the message for a file that ends before an array does."""
    file = "a file" if path is None else repr(str(path))
    return (
        f"{name} is mapped from {file}, which has been cut short: it holds {found:,} bytes, but "
        f"{name} reaches up to byte {wanted:,}."
    )


def _bases(X: object) -> Iterator[object]:
    while X is not None:
        yield X
        X = X.obj if isinstance(X, memoryview) else getattr(X, "base", None)


def _last_byte(X: np.ndarray, mapping: Mapping) -> int:
    """Return how far into the file an array reaches."""
    end = byte_bounds(X)[1]
    if mapping.array is not None:
        return mapping.array.offset + end - byte_bounds(mapping.array)[0]
    start = byte_bounds(np.frombuffer(mapping.file, np.uint8))[0]
    return _offset_in_file(start) + end - start


def _offset_in_file(address: int) -> int:
    """Return from where on a file is mapped to an address; 0 where the system does not say."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as regions:
            for region in regions:
                bounds, _, offset, *_ = region.split(maxsplit=3)
                first, end = (int(bound, 16) for bound in bounds.split("-"))
                if first <= address < end:
                    return int(offset, 16) + address - first
    except OSError:  # no Linux
        pass
    return 0
