"""Where rows are stored that are not on the device: how they are read, batch after batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from antibackdoor.training._decoded import DecodedRows
from antibackdoor.training._mapped import FileRows, find_place
from antibackdoor.utils import LazyRows


class Source(Protocol):
    """Stored rows, read by their numbers."""

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
    return ArrayRows(X) if place is None else FileRows(X, place)
