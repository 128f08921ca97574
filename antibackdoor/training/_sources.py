"""Sources of rows that are not on the device, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from antibackdoor.training._decoded import DecodedRows
from antibackdoor.training._mapped import FileRows, find_place, is_mapped
from antibackdoor.utils import LazyRows
from antibackdoor.utils._mapping import check_whole


class Source(Protocol):
    """Protocol of a source of stored rows, which are read by their indices."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as they are stored."""

    def read_batches(self, batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Return the rows of many batches one after the other, reading ahead where that pays."""

    def close(self) -> None:
        """Give back files and processes. It can be read on, at the cost of opening them anew."""


class ArrayRows:
    """The rows of an array, by indexing it."""

    def __init__(self, X: np.ndarray) -> None:
        self._X = X

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as they are stored."""
        return self._X[rows]

    def read_batches(self, batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Return the rows of many batches one after the other."""
        return map(self.read, batches)

    def close(self) -> None:
        """Nothing is open."""


class MappedRows(ArrayRows):
    """The rows of an array that can only be read through its mapping.

    Before each batch it is seen that the file is still there: if it is cut short while a batch is
    read, the system ends the process.
    """

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as they are stored.

        Raises
        ------
        ValueError
            If the file has been cut short.
        """
        check_whole(self._X)
        return super().read(rows)


def open_source(X: np.ndarray | LazyRows) -> Source:
    """Return the best way to read the rows of X.

    Raises
    ------
    ValueError
        If X is mapped from a file that has been cut short.
    """
    if isinstance(X, LazyRows):
        return DecodedRows(X)
    place = find_place(X)
    if place is not None:
        return FileRows(X, place)
    return MappedRows(X) if is_mapped(X) else ArrayRows(X)
