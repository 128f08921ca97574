"""Rows that are computed on demand, for data larger than memory."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike
from sklearn.utils import assert_all_finite

from antibackdoor.utils._arguments import check_whole_numbers
from antibackdoor.utils._numbers import check_number

_DTYPES = tuple(map(np.dtype, (np.uint8, np.float32, np.float64)))


class LazyRows(ABC):
    """Base of a lazy X: its rows are decoded, read or computed on demand.

    Derive from it, implement `decode`, and give it to `fit` like an array::

        clf = ABLClassifier().fit(MyRows(shape=(500_000, 64, 64, 3)), y)

    Classifiers accept it like an array, and never need all rows at once. ``X[rows]``, with a
    slice, indices or a mask, is lazy too, so that scikit-learn's splits and grid searches stay
    lazy. ``X[3]`` is an array. ``np.asarray(X)`` computes all rows.

    It must be picklable, and `decode` must give the same row each time.

    Parameters
    ----------
    shape : sequence of int
        Of X: (n_samples, n_features), (n_samples, H, W), (n_samples, H, W, C) or
        (n_samples, C, H, W).
    dtype : dtype, default=numpy.uint8
        uint8, float32 or float64.
    n_jobs : int, default=None
        Number of processes that decode rows ahead, in training and prediction. None and 1: no
        extra process. -1: one for each processor.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    n_jobs : int or None

    Raises
    ------
    ValueError
        If shape or dtype are of no X, or `n_jobs` is 0.
    TypeError
        If `n_jobs` is no whole number.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.utils import LazyRows
    >>> class Squares(LazyRows):
    ...     def decode(self, numbers):
    ...         return numbers[:, np.newaxis] ** np.array([1.0, 2.0])
    >>> X = Squares((1_000_000, 2), np.float64)
    >>> X[3]
    array([3., 9.])
    >>> X[::2].shape
    (500000, 2)
    >>> np.asarray(X[[5, 4]])
    array([[ 5., 25.],
           [ 4., 16.]])
    """

    def __init__(
        self, shape: Sequence[int], dtype: DTypeLike = np.uint8, *, n_jobs: int | None = None
    ) -> None:
        wanted = "2, 3 or 4 lengths, that of X first"
        lengths = check_whole_numbers("shape", shape, wanted)
        if not 2 <= len(lengths) <= 4 or min(lengths) < 0:
            raise ValueError(f"shape={shape!r}; wanted {wanted}.")
        self.dtype = np.dtype(dtype)
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype={dtype!r}; wanted uint8, float32 or float64.")
        if n_jobs is not None:
            check_number("n_jobs", n_jobs, "wanted a whole number or None", Integral)
            n_jobs = int(n_jobs)
        if n_jobs == 0:
            raise ValueError("n_jobs=0; wanted 1 or more, -1 for one a processor, or None.")
        self.n_jobs = n_jobs
        self._row_shape = lengths[1:]
        self._numbers = np.arange(lengths[0])

    @abstractmethod
    def decode(self, numbers: np.ndarray) -> np.ndarray:
        """Make rows.

        Parameters
        ----------
        numbers : numpy.ndarray of shape (n_rows,), int64
            Of the rows, counted in X as it was made: the same in any part of it.

        Returns
        -------
        numpy.ndarray of shape (n_rows, ...)
            Of the dtype of X.

        Raises
        ------
        ValueError
            If a row cannot be made; the message should say where it comes from.
        """

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as an array, checked to be what X says of itself.

        Parameters
        ----------
        rows : numpy.ndarray of shape (n_rows,), int64
            Counted in this X, which may be a part of another.

        Returns
        -------
        numpy.ndarray of shape (n_rows, ...)

        Raises
        ------
        ValueError
            If `decode` gives another shape or dtype, or values that are not finite.
        """
        decoded = np.asarray(self.decode(self._numbers[rows]))
        wanted = (len(rows), *self._row_shape)
        if decoded.shape != wanted or decoded.dtype != self.dtype:
            raise ValueError(
                f"X: {type(self).__name__}.decode gave {decoded.dtype} of shape {decoded.shape}; "
                f"wanted {self.dtype} of shape {wanted}."
            )
        assert_all_finite(decoded, input_name="X")
        return decoded

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that X stands for."""
        return (len(self._numbers), *self._row_shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, key: Any) -> Self | np.ndarray:
        if isinstance(key, tuple):
            if len(key) != 2 or key[1] is not Ellipsis:  # scikit-learn asks for [rows, ...]
                raise IndexError(f"{type(self).__name__} is indexed by rows alone, not by {key!r}.")
            key = key[0]
        numbers = self._numbers[key]
        if numbers.ndim == 0:
            return self.read(np.arange(len(self))[[key]])[0]
        if numbers.ndim > 1:
            raise IndexError(f"{type(self).__name__} is indexed by one row number for each row.")
        part = copy.copy(self)
        part._numbers = numbers
        return part

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows that are made when they are asked for cannot be had uncopied.")
        rows = self.read(np.arange(len(self)))
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of shape {self.shape}, {self.dtype}>"
