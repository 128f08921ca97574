"""Which rows make a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch


class Batches(Protocol):
    """Which rows make the batches of an epoch."""

    def __len__(self) -> int:
        """Batches in one epoch."""

    def epoch(self, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Give the row numbers of each batch."""


def count_batches(n_rows: int, batch_size: int) -> int:
    """Batches in one epoch of `shuffled_batches`."""
    batches = math.ceil(n_rows / min(batch_size, n_rows))
    return batches - 1 if batches > 1 and n_rows % batch_size == 1 else batches


def shuffled_batches(
    rows: torch.Tensor, batch_size: int, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """Give every row once, in random order.

    Batch norm has no variance of one sample: a last batch of one joins the batch
    before, and a row that is alone comes twice.
    """
    if len(rows) == 1:
        rows = rows.repeat(2)
    order = rows[torch.randperm(len(rows), generator=generator, device=generator.device)]
    n_batches = count_batches(len(rows), batch_size)
    for number in range(n_batches):
        last = number == n_batches - 1
        yield order[number * batch_size : None if last else (number + 1) * batch_size]


class ShuffledRows:
    """Every row once an epoch.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_rows,), int64
    batch_size : int
    """

    def __init__(self, rows: torch.Tensor, batch_size: int) -> None:
        self._rows = rows
        self._batch_size = batch_size

    def __len__(self) -> int:
        return count_batches(len(self._rows), self._batch_size)

    def epoch(self, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Give the batches of one epoch."""
        return shuffled_batches(self._rows, self._batch_size, generator)


class PairedRows:
    """Batches, each with as many rows of another kind behind it.

    Drawn with the others they would be many in one batch and missing in the next.

    Parameters
    ----------
    batches : Batches
        Of the first kind.
    others : torch.Tensor of shape (n_others,), int64
        Drawn anew for each batch.
    n_beside : int
        How many stand behind each batch; all of them, where there are fewer.
    """

    def __init__(self, batches: Batches, others: torch.Tensor, n_beside: int) -> None:
        self._batches = batches
        self._others = others
        #: Rows behind each batch.
        self.n_beside = min(n_beside, len(others))

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Give the batches of one epoch."""
        for batch in self._batches.epoch(generator):
            drawn = torch.randperm(len(self._others), generator=generator, device=generator.device)
            yield torch.cat([batch, self._others[drawn[: self.n_beside]]])
