"""Rows that are decoded on demand, by extra processes if wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from traceback import clear_frames
from typing import Any

import numpy as np
import torch
from joblib import effective_n_jobs
from torch.utils.data import DataLoader, Dataset

from antibackdoor.utils import LazyRows


class DecodedRows:
    """The rows of a `LazyRows`.

    The processes of ``n_jobs=`` start when many batches are first read, and run until `close`.
    """

    def __init__(self, X: LazyRows) -> None:
        self._X = X
        self._n_workers = effective_n_jobs(X.n_jobs)
        self._order = _Order()
        self._loader: DataLoader | None = None
        self._in_use = False

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return rows, decoded here."""
        return self._X.read(rows)

    def read_batches(self, batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Return the rows of many batches one after the other, decoded ahead."""
        # One iterator at a time: a second one would take batches from the first.
        if self._n_workers == 1 or len(batches) <= self._n_workers or self._in_use:
            yield from map(self.read, batches)
            return
        self._order.batches = batches
        self._in_use, n_given, failure = True, 0, None
        try:
            for rows in self._open():
                yield rows
                n_given += 1
        except Exception as error:
            failure = str(error)
            clear_frames(error.__traceback__)  # they keep references to the processes
        finally:
            self._in_use = False
            if n_given < len(batches):
                self.close()
        if failure is not None:
            # The text of a worker's traceback. Decoding the batch here raises the real error.
            self.read(batches[n_given])
            raise RuntimeError(f"X: a process that decodes its rows has failed: {failure}")

    def close(self) -> None:
        """End the processes."""
        self._loader = None

    def _open(self) -> DataLoader:
        if self._loader is None:
            self._loader = DataLoader(
                _Decoding(self._X),
                batch_size=None,  # an entry of the order is a batch already
                sampler=self._order,
                num_workers=self._n_workers,
                collate_fn=_as_it_is,
                persistent_workers=True,
                # Seeds of the workers, which would otherwise come from torch's global generator.
                generator=torch.Generator(),
            )
        return self._loader


class _Order:
    """The batches that are read next."""

    batches: Sequence[np.ndarray] = ()

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Decoding(Dataset):
    """In a worker: the rows of a batch."""

    def __init__(self, X: LazyRows) -> None:
        self._X = X

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._X.read(rows)


def _as_it_is(rows: Any) -> Any:
    """Send rows as an array: a tensor would take up shared memory, often 64 MB in a container."""
    return rows
