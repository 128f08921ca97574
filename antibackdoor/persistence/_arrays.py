"""numpy's array files: what one claims to hold is looked at before memory is taken for it."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.lib import format as npy

from antibackdoor.persistence._budget import BYTES_OF_A_LABEL

#: Booleans, whole numbers, floats, bytes and text. Objects would be pickles.
_KINDS = "biufSU"


def check_array(name: str, content: bytes) -> int:
    """Refuse what is not one whole array of plain values, and say how much memory it takes.

    Parameters
    ----------
    name : str
        Of the member, for the message.
    content : bytes

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
    file = io.BytesIO(content)
    try:
        version = npy.read_magic(file)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"version {version}, wanted 1.0 or 2.0")
        shape, _, dtype = readers[version](file)
    except ValueError as error:
        raise ValueError(f"its member {name} is no array of numpy ({error})") from error
    if dtype.kind not in _KINDS or dtype.shape:
        raise ValueError(
            f"its member {name} is an array of {dtype}; wanted plain numbers, booleans or text"
        )
    # Of a value without a width, such as text of no letters, any number take no bytes at all.
    if dtype.itemsize == 0:
        raise ValueError(f"its member {name} is an array of {dtype}, whose values have no width")
    if any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"its member {name} claims the shape {str(shape)[:80]}")
    held = len(content) - file.tell()
    wanted = math.prod(shape) * dtype.itemsize
    if held != wanted:
        raise ValueError(
            f"its member {name} claims the shape {str(shape)[:80]} of {dtype}, which is {wanted} "
            f"bytes, and holds {held}"
        )
    n_labels = math.prod(shape) if dtype.kind in "SU" else 0
    return len(content) + n_labels * BYTES_OF_A_LABEL


def is_scalar_type(name: str) -> bool:
    """Tell whether a name of numpy's is that of a plain scalar, such as ``float64``."""
    return name in _SCALARS


_SCALARS = frozenset(
    kind.__name__ for kind in np.sctypeDict.values() if np.dtype(kind).kind in _KINDS
)
