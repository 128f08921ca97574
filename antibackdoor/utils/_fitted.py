"""Constraints of fitted attributes, which are checked when a model file is loaded.

A class lists its fitted attributes in `_fitted_constraints`, as it lists its parameters in
`_parameter_constraints`. Attributes that all attacks or all classifiers have are not repeated
there. Loading refuses attributes that are not listed, and those whose type, shape or values `fit`
cannot give.
"""

from __future__ import annotations

import math
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

#: Returns what depends on the rest of the model: parameters and attributes that have passed.
OfModel = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Fitted(ABC):
    """Base of the constraints of fitted attributes.

    Parameters
    ----------
    required : bool, default=True
        Whether a fitted model always has the attribute.

    Examples
    --------
    >>> from antibackdoor.utils import Fitted, FittedNumber
    >>> isinstance(FittedNumber(kind=int), Fitted)
    True
    """

    required: bool = True

    @abstractmethod
    def fault(self, value: Any, model: Any) -> str | None:
        """Return what is wrong with a value, as the end of a sentence; None if it is valid.

        Parameters
        ----------
        value : object
            Of the attribute.
        model : object
            Has the parameters, and those attributes that stand before this one in the list.
        """


@dataclass(frozen=True, kw_only=True)
class FittedArray(Fitted):
    """Constraint of an array of numbers or booleans, with bounds.

    Parameters
    ----------
    dtype : str or callable
        Name of the type.
    shape : callable
        Its shape. The length of an axis is a number, or a range of those allowed.
    low, high : float, array or callable, default=-inf, inf
        Least and greatest value.
    nan : bool, default=False
        Whether NaN is allowed. Infinite values are not.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.utils import FittedArray
    >>> FittedArray(dtype="float64", shape=lambda model: (2,)).fault(np.zeros(3), model=None)
    'has shape (3,); wanted (2,)'
    """

    dtype: str | OfModel
    shape: OfModel
    low: Any = -math.inf
    high: Any = math.inf
    nan: bool = False

    def fault(self, value: Any, model: Any) -> str | None:
        """See `Fitted.fault`."""
        dtype, shape = _of(self.dtype, model), tuple(self.shape(model))
        if not isinstance(value, np.ndarray):
            return f"is no array, but {type(value).__name__}"
        if value.dtype != np.dtype(dtype) or not value.dtype.isnative:
            return f"is an array of {value.dtype}; wanted {dtype}"
        if not _matches(value.shape, shape):
            return f"has shape {value.shape}; wanted {shape}"
        if value.dtype.kind == "f":
            if not self.nan and np.isnan(value).any():
                return "holds NaN"
            if np.isinf(value).any():
                return "holds infinite values"
        low, high = _of(self.low, model), _of(self.high, model)
        if ((value < low) | (value > high)).any():
            return f"holds values outside of {np.min(low).item()} to {np.max(high).item()}"
        return None


@dataclass(frozen=True, kw_only=True)
class FittedNumber(Fitted):
    """Constraint of a Python number, with bounds.

    Parameters
    ----------
    kind : type
        bool, int or float.
    low, high : float or callable, default=-inf, inf
    nan : bool, default=False
        Whether NaN is allowed.

    Examples
    --------
    >>> from antibackdoor.utils import FittedNumber
    >>> FittedNumber(kind=int, low=0, high=9).fault(10, model=None)
    'is 10; wanted 0 to 9'
    """

    kind: type
    low: Any = -math.inf
    high: Any = math.inf
    nan: bool = False

    def fault(self, value: Any, model: Any) -> str | None:
        """See `Fitted.fault`."""
        if not isinstance(value, _KINDS[self.kind]) or (
            isinstance(value, bool) and self.kind is not bool
        ):
            return f"is {_short(value)}; wanted {self.kind.__name__}"
        if isinstance(value, Real) and math.isnan(value):
            return None if self.nan else "is NaN"
        low, high = _of(self.low, model), _of(self.high, model)
        if not low <= value <= high:
            return f"is {_short(value)}; wanted {_short(low)} to {_short(high)}"
        return None


@dataclass(frozen=True, kw_only=True)
class FittedTuple(Fitted):
    """Constraint of a tuple of numbers.

    Parameters
    ----------
    each : FittedNumber
        Constraint of each of them.
    length : int
        Number of them.

    Examples
    --------
    >>> from antibackdoor.utils import FittedNumber, FittedTuple
    >>> FittedTuple(each=FittedNumber(kind=float), length=2).fault((0.5,), model=None)
    'is (0.5,); wanted a tuple of 2 numbers'
    """

    each: FittedNumber
    length: int

    def fault(self, value: Any, model: Any) -> str | None:
        """See `Fitted.fault`."""
        if not isinstance(value, tuple) or len(value) != self.length:
            return f"is {_short(value)}; wanted a tuple of {self.length} numbers"
        faults = [self.each.fault(number, model) for number in value]
        return next((fault for fault in faults if fault is not None), None)


@dataclass(frozen=True, kw_only=True)
class FittedDict(Fitted):
    """Constraint of a dictionary, with a constraint for each entry.

    Parameters
    ----------
    entries : dict of str to Fitted
    """

    entries: Mapping[str, Fitted]

    def fault(self, value: Any, model: Any) -> str | None:
        """See `Fitted.fault`."""
        if not isinstance(value, dict):
            return f"is no dictionary, but {type(value).__name__}"
        needed = {key for key, constraint in self.entries.items() if constraint.required}
        if not needed <= set(value) <= set(self.entries):
            return f"has the entries {_short(sorted(value))}; wanted {sorted(self.entries)}"
        for key, entry in value.items():
            fault = self.entries[key].fault(entry, model)
            if fault is not None:
                return f"has a {key!r} that {fault}"
        return None


@dataclass(frozen=True, kw_only=True)
class FittedList(Fitted):
    """Constraint of a list, with the same constraint for all items."""

    item: Fitted

    def fault(self, value: Any, model: Any) -> str | None:
        """See `Fitted.fault`."""
        if not isinstance(value, list):
            return f"is no list, but {type(value).__name__}"
        for place, item in enumerate(value):
            fault = self.item.fault(item, model)
            if fault is not None:
                return f"has a row {place} that {fault}"
        return None


@dataclass(frozen=True, kw_only=True)
class FittedText(Fitted):
    """Constraint of a short string."""

    def fault(self, value: Any, model: Any) -> str | None:
        """See `Fitted.fault`."""
        if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
            return f"is {_short(value)}; wanted a short text"
        return None


_LONGEST_TEXT = 200

_KINDS: dict[type, Any] = {bool: bool, int: Integral, float: Real}


def _of(value: Any, model: Any) -> Any:
    return value(model) if callable(value) else value


def _matches(shape: tuple[int, ...], wanted: tuple[int | range, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        size in length if isinstance(length, range) else size == length
        for size, length in zip(shape, wanted, strict=True)
    )


def _short(value: Any) -> str:
    """Write the beginning of a value down; a file may give one of any length."""
    return reprlib.repr(value)[:80]
