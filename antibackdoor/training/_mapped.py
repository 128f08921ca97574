"""Rows of a memory-mapped array, read from the file itself.

Pages read through a mapping count as memory of the process until the system frees them, and a
file that is truncated meanwhile ends the process. Reading from the file avoids both.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from itertools import islice
from pathlib import Path
from threading import Lock

import numpy as np
from sklearn.utils import assert_all_finite

from antibackdoor.utils._mapping import check_whole, cut_short, find_mapping

# Number of batches to read ahead.
_AHEAD = 2


@dataclass(frozen=True)
class Place:
    """Position of the rows of an array in a file.

    Attributes
    ----------
    start : int
        Offset of the first row, in bytes.
    stride : int
        Distance from a row to the next, in bytes.
    """

    path: Path
    start: int
    stride: int


def is_mapped(X: object) -> bool:
    """Return whether X is a memory-mapped array, or a view of one."""
    return isinstance(X, np.ndarray) and find_mapping(X) is not None


def find_place(X: np.ndarray) -> Place | None:
    """Return the position of the rows of X in their file; None if it cannot be determined.

    Parameters
    ----------
    X : numpy.ndarray of shape (n_samples, ...)

    Returns
    -------
    Place or None
        None for an array in memory, or mapped with copy on write ("c"). Also if a row is not in
        one piece, or if the file has no name, or its name now belongs to another file.

    Raises
    ------
    ValueError
        If the file was truncated.
    """
    check_whole(X)
    found = find_mapping(X)
    mapping = None if found is None else found.array
    if mapping is None or mapping.filename is None or mapping.mode == "c":
        return None
    path = Path(mapping.filename)
    if X.size == 0 or not X[0].flags.c_contiguous or not path.is_file():
        return None
    start = mapping.offset + _address(X) - _address(mapping)
    place = Place(path, start, X.strides[0])
    _check_size(X, place)
    if mapping.mode != "r":
        mapping.flush()  # values written to the array, but not yet to the file
    return place if _holds(place, X) else None


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _check_size(X: np.ndarray, place: Place) -> None:
    last = max(place.start, place.start + (len(X) - 1) * place.stride)
    wanted, found = last + X[0].nbytes, place.path.stat().st_size
    if found < wanted:
        raise ValueError(cut_short(place.path, wanted, found))


def _holds(place: Place, X: np.ndarray) -> bool:
    """Return whether the file of that name is still the one that is mapped."""
    with place.path.open("rb") as file:
        for row in (0, len(X) - 1):
            file.seek(place.start + row * place.stride)
            if file.read(X[row].nbytes) != X[row].tobytes():
                return False
    return True


class FileRows:
    """The rows of a mapped array, read from its file.

    Parameters
    ----------
    X : numpy.ndarray of shape (n_samples, ...)
        The array; its values are not read.
    place : Place
        Position of its rows.
    """

    def __init__(self, X: np.ndarray, place: Place) -> None:
        self._n_rows, self._row_shape, self._dtype = len(X), X.shape[1:], X.dtype
        self._row_bytes = X[0].nbytes
        self._place = place
        self._file: FileIO | None = None
        self._lock = Lock()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as they are stored.

        Raises
        ------
        ValueError
            If the file was truncated, or holds values that are not finite.
        """
        if rows.min(initial=0) < 0 or rows.max(initial=0) >= self._n_rows:
            raise IndexError(f"X has {self._n_rows} rows, but others were asked for.")
        stored = np.empty((len(rows), *self._row_shape), self._dtype)
        into = stored.reshape(-1).view(np.uint8).data
        for first, stop in self._runs(rows):
            part = into[first * self._row_bytes : stop * self._row_bytes]
            self._fill(part, self._place.start + int(rows[first]) * self._place.stride)
        assert_all_finite(stored, input_name="X")
        return stored

    def read_batches(self, batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Return the rows of many batches one after the other; a thread reads ahead."""
        upcoming = iter(batches)
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead = deque(reader.submit(self.read, rows) for rows in islice(upcoming, _AHEAD))
            while ahead:
                stored = ahead.popleft().result()
                ahead.extend(reader.submit(self.read, rows) for rows in islice(upcoming, 1))
                yield stored

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _runs(self, rows: np.ndarray) -> list[tuple[int, int]]:
        """Return the contiguous parts of `rows`, in the order of the file."""
        if len(rows) == 0:
            return []
        one_behind_the_other = (np.diff(rows) == 1) & (self._place.stride == self._row_bytes)
        first = np.concatenate([[0], 1 + np.flatnonzero(~one_behind_the_other)])
        stop = np.append(first[1:], len(rows))
        order = np.argsort(rows[first], kind="stable")
        return list(zip(first[order].tolist(), stop[order].tolist(), strict=True))

    def _fill(self, into: memoryview, start: int) -> None:
        """Fill `into` with bytes of the file."""
        done = 0
        while done < len(into):
            count = self._read_some(into[done:], start + done)
            if count == 0:
                found = self._place.path.stat().st_size
                raise ValueError(cut_short(self._place.path, start + len(into), found))
            done += count

    def _read_some(self, into: memoryview, start: int) -> int:
        with self._lock:
            if self._file is None:
                self._file = self._place.path.open("rb", buffering=0)
            if not hasattr(os, "preadv"):  # Windows
                self._file.seek(start)
                return self._file.readinto(into)
        return os.preadv(self._file.fileno(), [into], start)
