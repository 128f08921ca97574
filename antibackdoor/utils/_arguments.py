"""Errors that say which argument was at fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_array

from antibackdoor.utils._numbers import is_number


@contextmanager
def naming(argument: str) -> Iterator[None]:
    """Add the name of an argument to errors in the block that do not name it.

    scikit-learn and numpy say what is wrong with an array, but not always which array. Errors
    from converting an object to an array (whole numbers too large for a float, a tensor that
    requires gradients) become a ValueError.

    Examples
    --------
    >>> from antibackdoor.utils import naming
    >>> with naming("y"):
    ...     raise ValueError("Input contains NaN.")
    Traceback (most recent call last):
    ValueError: y: Input contains NaN.
    """
    try:
        yield
    except NotFittedError:  # a ValueError of its own, which says enough
        raise
    except (OverflowError, RuntimeError) as error:
        raise ValueError(f"{argument}: {error}") from error
    except (TypeError, ValueError) as error:
        if re.search(rf"\b{argument}\b", str(error)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{argument}: {error}") from error


def as_numbers(rows: np.ndarray) -> np.ndarray:
    """Convert an object array of numbers, such as fractions, to floats."""
    if rows.dtype.kind != "O":
        return rows
    return check_array(rows, dtype=np.float64, allow_nd=True, input_name="X")


def check_mask(name: str, mask: ArrayLike, n_rows: int) -> np.ndarray:
    """Return a boolean mask over `n_rows` rows.

    Raises
    ------
    TypeError
        If it is not boolean.
    ValueError
        If it has another length.
    """
    checked = np.asarray(mask)
    if checked.dtype == object and all(
        isinstance(value, bool | np.bool_) for value in checked.flat
    ):
        checked = checked.astype(bool)  # pandas' nullable booleans arrive as objects
    if checked.dtype != bool:
        raise TypeError(
            f"{name} has dtype {checked.dtype}; wanted a boolean mask with one value a row, "
            f"not indices."
        )
    if checked.shape != (n_rows,):
        raise ValueError(f"{name} has shape {checked.shape}; wanted ({n_rows},).")
    return checked


def check_whole_numbers(argument: str, values: Any, wanted: str) -> tuple[int, ...]:
    """Return a sequence of whole numbers as integers.

    Parameters
    ----------
    argument : str
        Its name, for the message.
    values : array-like
    wanted : str
        What it should be, for the message.

    Returns
    -------
    tuple of int

    Raises
    ------
    TypeError
        If something in it is no number; True and False are none.
    ValueError
        If a number has a fraction or is not finite.
    """
    message = f"{argument}={values!r}; wanted {wanted}."
    if np.ndim(values) == 0:
        raise TypeError(message)
    if not all(is_number(value) for value in values):
        raise TypeError(message)
    if not all(isinstance(value, Integral) or float(value).is_integer() for value in values):
        raise ValueError(message)
    return tuple(int(value) for value in values)
