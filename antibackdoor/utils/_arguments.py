"""Errors that say which argument was at fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_array

from antibackdoor.utils._numbers import is_number


@contextmanager
def naming(argument: str) -> Iterator[None]:
    """Put the name of an argument before an error of the block that leaves it out.

    scikit-learn and numpy say what is wrong with an array, but not always with
    which. What an object that is no array raises when it is turned into one (whole numbers
    that no float can hold, a tensor that wants gradients) becomes a ValueError.
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
    """Turn into floats what scikit-learn leaves as objects, such as a list of fractions."""
    if rows.dtype.kind != "O":
        return rows
    return check_array(rows, dtype=np.float64, allow_nd=True, input_name="X")


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
