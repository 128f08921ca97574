"""Rows as a network takes them: kept as they are stored, given out as float batches."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import numpy as np
import torch

from antibackdoor.utils import ImageLayout

#: Rows of a chunk where all rows are read once, in order.
CHUNK = 512


class Samples:
    """The rows of X on a device.

    Pixels stay uint8 until a batch is asked for. An array that is mapped from
    a file stays in the file and is read batch by batch.

    Parameters
    ----------
    X : numpy.ndarray of shape (n_samples, ...)
        Validated rows. uint8 is scaled to [0, 1]; floats are given out as they are.
    layout : ImageLayout or None
        How a row holds an image; None for tabular rows.
    device : torch.device
    dtype : torch.dtype
        Of the batches given out.
    resident : bool, default=True
        Copy all rows to the device. False: leave them in `X`.
    """

    def __init__(
        self,
        X: np.ndarray,
        layout: ImageLayout | None,
        device: torch.device,
        dtype: torch.dtype,
        *,
        resident: bool = True,
    ) -> None:
        self.layout = layout
        self.device = device
        self.dtype = dtype
        self._rows = X if layout is None else np.moveaxis(layout.to_nchw(X), 1, -1)
        self._stored = self._to_device(self._rows) if resident else None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample in a batch: (n_features,) or (C, H, W)."""
        return self._rows.shape[1:] if self.layout is None else self.layout.chw

    def stored(self, index: torch.Tensor) -> torch.Tensor:
        """Return rows in their stored type, images as (n, H, W, C)."""
        if self._stored is not None:
            return self._stored[index]
        # Read in file order, then put back into the order asked for.
        order = np.argsort(index.cpu().numpy(), kind="stable")
        rows = self._to_device(self._rows[index.cpu().numpy()[order]])
        return rows[torch.as_tensor(np.argsort(order, kind="stable"), device=self.device)]

    def to_inputs(self, stored: torch.Tensor) -> torch.Tensor:
        """Turn stored rows into what a network takes: floats, images as (n, C, H, W)."""
        inputs = stored.to(self.dtype)
        if stored.dtype == torch.uint8:
            inputs = inputs.div_(255)
        # A contiguous (n, H, W, C) seen as (n, C, H, W) is torch's channels-last format.
        return inputs if self.layout is None else inputs.permute(0, 3, 1, 2)

    def chunks(self, rows: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """Give rows in the order asked for, all by default, as inputs."""
        if rows is None:
            rows = torch.arange(len(self), device=self.device)
        for index in rows.split(CHUNK):
            yield self.to_inputs(self.stored(index))

    def mean(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the mean of some rows in their stored units, shape of a stored row, float64."""
        total = torch.zeros(self._rows.shape[1:], dtype=torch.float64, device=self.device)
        for index in rows.split(CHUNK):
            total += self.stored(index).double().sum(0)
        return total / len(rows)

    def shifted(self, rows: torch.Tensor, difference: torch.Tensor) -> Samples:
        """Return some rows with a difference added to each, pixels kept in their range.

        Parameters
        ----------
        rows : torch.Tensor of shape (n_rows,), int64
        difference : torch.Tensor
            Of the shape and in the units of a stored row.

        Returns
        -------
        Samples
        """
        stored = self.stored(rows)
        moved = stored.double() + difference
        if stored.dtype == torch.uint8:
            moved = moved.clamp(0, 255).round()
        shifted = copy.copy(self)
        shifted._stored = moved.to(stored.dtype)
        shifted._rows = shifted._stored.cpu().numpy()
        return shifted

    def channel_statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation per channel, or per column of a table."""
        n_channels = self.input_shape[0]
        # Channels last, so that a channel is a column and a pixel a row.
        mean = torch.zeros(n_channels, dtype=torch.float64, device=self.device)
        n_values = len(self) * math.prod(self.input_shape[1:])
        for chunk in self.chunks():
            mean += chunk.double().movedim(1, -1).reshape(-1, n_channels).sum(0)
        mean /= n_values
        # A second pass: sums of squares lose the digits of columns far from zero.
        variance = torch.zeros_like(mean)
        for chunk in self.chunks():
            values = chunk.double().movedim(1, -1).reshape(-1, n_channels)
            variance += (values - mean).square().sum(0)
        return mean, (variance / n_values).sqrt()

    def _to_device(self, rows: np.ndarray) -> torch.Tensor:
        rows = np.ascontiguousarray(rows)
        if not rows.flags.writeable:
            rows = rows.copy()  # torch warns of tensors over memory it must not write
        tensor = torch.from_numpy(rows)
        if tensor.dtype != torch.uint8:
            tensor = tensor.to(self.dtype)
        return tensor.to(self.device)
