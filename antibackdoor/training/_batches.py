"""Batches of an epoch, as row indices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch

# Steps of an epoch, and the limits of a batch, that "auto" stands for.
_STEPS_AN_EPOCH = 160
_SMALLEST, _LARGEST = 32, 128


def resolve_batch_size(batch_size: int | str, n_rows: int) -> int:
    """Return the samples per step for the parameter `batch_size` of an estimator.

    Parameters
    ----------
    batch_size : int or "auto"
        ``"auto"``: a 160th of the rows, from 32 to 128.
    n_rows : int

    Returns
    -------
    int

    Examples
    --------
    >>> from antibackdoor.training import resolve_batch_size
    >>> [resolve_batch_size("auto", n_rows) for n_rows in (500, 10_000, 50_000)]
    [32, 62, 128]
    """
    if not isinstance(batch_size, str):
        return batch_size
    return min(_LARGEST, max(_SMALLEST, n_rows // _STEPS_AN_EPOCH))


class Batches(Protocol):
    """Protocol of the batches of an epoch, as row indices.

    Batches may have an attribute `n_rows`, the number of rows in an epoch, for the progress of the
    fit. Without it an epoch counts as one pass over all rows.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.training import Batches, ShuffledRows
    >>> batches: Batches = ShuffledRows(torch.arange(10), batch_size=4)
    >>> [len(rows) for rows in batches.epoch(torch.Generator().manual_seed(0))]
    [4, 4, 2]
    """

    def __len__(self) -> int:
        """Batches in one epoch."""

    def epoch(self, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Give the row numbers of each batch."""


class ShuffledRows:
    """Batches of all rows, each once an epoch, in random order.

    Batch norm has no variance of one sample: a last batch of one joins the batch before.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_rows,), int64
    batch_size : int

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.training import ShuffledRows
    >>> batches = ShuffledRows(torch.arange(9), batch_size=4)
    >>> [len(rows) for rows in batches.epoch(torch.Generator().manual_seed(0))]
    [4, 5]
    """

    def __init__(self, rows: torch.Tensor, batch_size: int) -> None:
        self._rows = rows
        self._batch_size = batch_size

    def __len__(self) -> int:
        n_rows = len(self._rows)
        batches = math.ceil(n_rows / min(self._batch_size, n_rows))
        return batches - 1 if batches > 1 and n_rows % self._batch_size == 1 else batches

    @property
    def n_rows(self) -> int:
        """Number of rows in an epoch."""
        return len(self._rows)

    def epoch(self, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Give the batches of one epoch."""
        # A row that is alone comes twice.
        rows = self._rows.repeat(2) if len(self._rows) == 1 else self._rows
        order = rows[torch.randperm(len(rows), generator=generator, device=generator.device)]
        size, n_batches = self._batch_size, len(self)
        for number in range(n_batches):
            last = number == n_batches - 1
            yield order[number * size : None if last else (number + 1) * size]


class PairedRows:
    """Batches that each get the same number of rows of a second kind at their end.

    Drawn together with the others, these rows would be many in one batch and missing in the next.

    Parameters
    ----------
    batches : Batches
        Batches of the first kind.
    others : torch.Tensor of shape (n_others,), int64
        Rows of the second kind, drawn anew for each batch.
    n_beside : int
        Number of rows of the second kind in each batch; all of them if there are fewer.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.training import PairedRows, ShuffledRows
    >>> batches = PairedRows(ShuffledRows(torch.arange(8), 4), torch.tensor([8, 9]), n_beside=1)
    >>> [len(rows) for rows in batches.epoch(torch.Generator().manual_seed(0))]
    [5, 5]
    """

    def __init__(self, batches: Batches, others: torch.Tensor, n_beside: int) -> None:
        self._batches = batches
        self._others = others
        #: Number of rows of the second kind in each batch.
        self.n_beside = min(n_beside, len(others))

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def n_rows(self) -> int:
        """Number of rows in an epoch, or 0 if the batches of the first kind do not know theirs."""
        of_first = getattr(self._batches, "n_rows", 0)
        return of_first and of_first + self.n_beside * len(self)

    def epoch(self, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Give the batches of one epoch."""
        for batch in self._batches.epoch(generator):
            drawn = torch.randperm(len(self._others), generator=generator, device=generator.device)
            yield torch.cat([batch, self._others[drawn[: self.n_beside]]])
