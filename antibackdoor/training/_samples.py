"""Rows as inputs of a network: stored as they are, returned as float batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch

from antibackdoor.backbones import Backbone, Network, build_network
from antibackdoor.training._sources import ArrayRows, Source, open_source
from antibackdoor.utils import ImageLayout, LazyRows

# Largest rows and pixels (or features) of a chunk, when all rows are read in order. They limit the
# memory of a network on large images: a chunk is 512 images of 32 x 32.
_CHUNK_ROWS = 512
_CHUNK_PIXELS = 512 * 32 * 32

# Standard deviations from the mean.
_USUAL = 3


class Samples:
    """The rows of X as inputs of a network, on a device.

    Pixels stay uint8 until they are needed as a batch.

    Parameters
    ----------
    X : numpy.ndarray of shape (n_samples, ...) or LazyRows
        Validated rows. uint8 is scaled to [0, 1]; floats are not changed.
    layout : ImageLayout or None
        Layout of the image in a row; None for tables.
    device : torch.device
    dtype : torch.dtype
        Dtype of the batches.
    resident : bool, default=True
        Copy all rows to the device. False: read them batch by batch, from the array, its file or
        the decoder.

    Raises
    ------
    ValueError
        If rows are read from a truncated file.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from antibackdoor.training import Samples
    >>> from antibackdoor.utils import resolve_layout
    >>> X = np.full((3, 8, 8), 255, dtype=np.uint8)
    >>> samples = Samples(X, resolve_layout((8, 8)), torch.device("cpu"), torch.float32)
    >>> inputs = samples.to_inputs(samples.stored(torch.tensor([0, 1])))
    >>> inputs.shape, inputs.max()
    (torch.Size([2, 1, 8, 8]), tensor(1.))
    """

    def __init__(
        self,
        X: np.ndarray | LazyRows,
        layout: ImageLayout | None,
        device: torch.device,
        dtype: torch.dtype,
        *,
        resident: bool = True,
    ) -> None:
        self.layout = layout
        self.device = device
        self.dtype = dtype
        self.input_shape: tuple[int, ...] = X.shape[1:] if layout is None else layout.chw
        self._n_rows = len(X)
        # All rows as `stored` gives them out, if they are kept on the device.
        self._resident: torch.Tensor | None = None
        #: How rows are read as they are in X.
        self.source: Source
        if resident:
            array = np.asarray(X)
            self.source, self._resident = ArrayRows(array), self._to_device(array)
        else:
            self.source = open_source(X)

    def __len__(self) -> int:
        return self._n_rows

    def close(self) -> None:
        """Close the files and end the processes that read rows."""
        self.source.close()

    def stored(self, index: torch.Tensor) -> torch.Tensor:
        """Return rows in their stored type, images as (n, H, W, C)."""
        if self._resident is not None:
            return self._resident[index]
        return self._to_device(self.source.read(index.cpu().numpy()))

    def stored_batches(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Give the `stored` rows of many batches, one after the other."""
        if self._resident is not None:
            return map(self.stored, batches)
        numbers = [index.cpu().numpy() for index in batches]
        return map(self._to_device, self.source.read_batches(numbers))

    def to_inputs(self, stored: torch.Tensor) -> torch.Tensor:
        """Convert stored rows to inputs of a network: floats, images as (n, C, H, W)."""
        inputs = stored.to(self.dtype)
        if stored.dtype == torch.uint8:
            inputs = inputs.div_(255)
        # A contiguous (n, H, W, C) seen as (n, C, H, W) is torch's channels-last format.
        return inputs if self.layout is None else inputs.permute(0, 3, 1, 2)

    def chunks(self, rows: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """Give rows in the order asked for, all by default, as inputs."""
        return map(self.to_inputs, self._stored_chunks(rows))

    def mean(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the mean of some rows in their stored units, shape of a stored row, float64."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for stored in self._stored_chunks(rows):
            total = total + stored.double().sum(0)
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
            That reads the rows of these when it is asked for its own.
        """
        return _Shifted(self, rows, difference)

    @cached_property
    def value_range(self) -> tuple[float, float]:
        """The smallest and the largest value to expect in a stored row.

        0 and 255 for pixels, else the extremes of the data, a little apart if they are equal.
        """
        low, high = math.inf, -math.inf
        for stored in self._stored_chunks(None):
            if stored.dtype == torch.uint8:
                return 0.0, 255.0
            low, high = min(low, float(stored.min())), max(high, float(stored.max()))
        return low, max(high, low + 1e-6 * max(1.0, abs(low)))

    def usual_range(self) -> tuple[float, float]:
        """Return the range of nearly all stored values.

        It covers three standard deviations around the mean of each channel, within
        `value_range`. For photographs that is all of `value_range`. It is narrower for pixels
        that were standardised one by one, where a few values are far outside, and for pixels from
        0 to 16.
        """
        low, high = self.value_range
        one_row = self.stored(torch.zeros(1, dtype=torch.int64, device=self.device))
        unit = 255 if one_row.dtype == torch.uint8 else 1
        mean, scale = (statistic * unit for statistic in self.channel_statistics)
        return (
            max(low, float((mean - _USUAL * scale).min())),
            min(high, float((mean + _USUAL * scale).max())),
        )

    @cached_property
    def channel_statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and scale of the inputs per channel, or per column of a table.

        The scale is the standard deviation, or 1 if all values are equal but for rounding.
        """
        n_channels = self.input_shape[0]
        # Channels last, so that a channel is a column and a pixel a row.
        mean = torch.zeros(n_channels, dtype=torch.float64, device=self.device)
        n_values = len(self) * math.prod(self.input_shape[1:])
        for chunk in self.chunks():
            mean += chunk.double().movedim(1, -1).reshape(-1, n_channels).sum(0)
        mean /= n_values
        # A second pass, since sums of squares lose digits for columns far from zero.
        variance = torch.zeros_like(mean)
        for chunk in self.chunks():
            values = chunk.double().movedim(1, -1).reshape(-1, n_channels)
            variance += (values - mean).square().sum(0)
        variance /= n_values
        constant = variance <= _rounding_error(mean, variance, n_values, self.dtype)
        return mean, torch.where(constant, 1.0, variance.sqrt())

    def new_network(self, backbone: Backbone, n_outputs: int) -> Network:
        """Return an untrained network that standardises by the statistics of these rows."""
        mean, scale = (statistic.cpu() for statistic in self.channel_statistics)
        network = build_network(
            backbone, self.input_shape, n_outputs, mean=mean, scale=scale, dtype=self.dtype
        )
        return network.to(self.device)

    def _stored_chunks(self, rows: torch.Tensor | None) -> Iterator[torch.Tensor]:
        if rows is None:
            rows = torch.arange(len(self), device=self.device)
        pixels = math.prod(self.input_shape[-2:])
        return self.stored_batches(rows.split(max(1, min(_CHUNK_ROWS, _CHUNK_PIXELS // pixels))))

    def _to_device(self, rows: np.ndarray) -> torch.Tensor:
        if self.layout is not None:
            rows = np.moveaxis(self.layout.to_nchw(rows), 1, -1)
        rows = np.ascontiguousarray(rows)
        if not rows.flags.writeable:
            rows = rows.copy()  # torch warns of tensors over memory it must not write
        tensor = torch.from_numpy(rows)
        if tensor.dtype != torch.uint8:
            tensor = tensor.to(self.dtype)
        return tensor.to(self.device)


def _rounding_error(
    mean: torch.Tensor, variance: torch.Tensor, n_values: int, dtype: torch.dtype
) -> torch.Tensor:
    """Return the largest variance that equal values may seem to have.

    The sums are float64's, whose error is bounded as in scikit-learn's scalers (Chan, Golub &
    LeVeque 1983). The values have the digits of `dtype`: what differs in the last one is equal.
    """
    of_sums = torch.finfo(torch.float64).eps
    of_values = torch.finfo(dtype).eps * mean
    return n_values * of_sums * variance + (n_values * of_sums * mean) ** 2 + of_values**2


class _Shifted(Samples):
    """Some rows of other samples, with a difference added to each."""

    def __init__(self, samples: Samples, rows: torch.Tensor, difference: torch.Tensor) -> None:
        self.layout = samples.layout
        self.device = samples.device
        self.dtype = samples.dtype
        self.input_shape = samples.input_shape
        self.source = samples.source
        self._samples = samples
        self._rows = rows
        self._difference = difference

    def __len__(self) -> int:
        return len(self._rows)

    def stored(self, index: torch.Tensor) -> torch.Tensor:
        return self._shift(self._samples.stored(self._rows[index]))

    def stored_batches(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        stored = self._samples.stored_batches([self._rows[index] for index in batches])
        return map(self._shift, stored)

    def _shift(self, stored: torch.Tensor) -> torch.Tensor:
        shifted = stored.double() + self._difference
        if stored.dtype == torch.uint8:
            shifted = shifted.clamp(0, 255).round()
        return shifted.to(stored.dtype)
