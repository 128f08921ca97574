"""The arrays of a file: plain values, and how much memory they take."""

from __future__ import annotations

import io
import math

import numpy as np

from antibackdoor.persistence._budget import BYTES_OF_A_LABEL
from antibackdoor.utils import read_array_header

#: Booleans, whole numbers, floats, bytes and text. Objects would be pickles.
_KINDS = "biufSU"


#: numpy itself reads none that is longer.
_LONGEST_HEADER = 2**14


def check_array(name: str, content: bytes | bytearray) -> int:
    """Refuse what is not one whole array of plain values, and say how much memory it takes.

    Parameters
    ----------
    name : str
        Of the member, for the message.
    content : bytes or bytearray

    Returns
    -------
    int
        In bytes. Text takes more once it is listed, as labels are.

    Raises
    ------
    ValueError
        If the header cannot be read, the type is not plain, or the shape it claims does not
        agree with the bytes that follow.
    """
    beginning = io.BytesIO(content[:_LONGEST_HEADER])
    shape, dtype = read_array_header(f"its member {name}", beginning, len(content))
    if dtype.kind not in _KINDS or dtype.shape:
        raise ValueError(
            f"its member {name} is an array of {dtype}; wanted plain numbers, booleans or text"
        )
    n_labels = math.prod(shape) if dtype.kind in "SU" else 0
    return len(content) + n_labels * BYTES_OF_A_LABEL


def is_scalar_type(name: str) -> bool:
    """Tell whether a name of numpy's is that of a plain scalar, such as ``float64``."""
    return name in _SCALARS


_SCALARS = frozenset(
    kind.__name__ for kind in np.sctypeDict.values() if np.dtype(kind).kind in _KINDS
)
