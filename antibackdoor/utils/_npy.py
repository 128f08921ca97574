"""numpy's array files: what one claims to hold is looked at before memory is taken for it."""

from __future__ import annotations

import math
from typing import IO

import numpy as np
from numpy.lib import format as npy

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_array_header(name: str, file: IO[bytes], n_bytes: int) -> tuple[tuple[int, ...], np.dtype]:
    """Read what an array file claims, and refuse what does not agree with its length.

    Parameters
    ----------
    name : str
        Subject of the message.
    file : file object
        At the beginning of the array file; it is left at the first value.
    n_bytes : int
        Length of the array file.

    Returns
    -------
    shape : tuple of int
    dtype : numpy.dtype
        May be an object dtype, which is a pickle: then the length is not checked.

    Raises
    ------
    ValueError
        If the header cannot be read, values have no width, or the shape does not agree with the
        bytes that follow.
    """
    try:
        version = npy.read_magic(file)
        if version not in _READERS:
            raise ValueError(f"version {version}, wanted 1.0 or 2.0")
        shape, _, dtype = _READERS[version](file)
    except ValueError as error:
        raise ValueError(f"{name} is no array of numpy ({error})") from error
    if dtype.hasobject:
        return shape, dtype
    # Of a value without a width, such as text of no letters, any number take no bytes at all.
    if dtype.itemsize == 0:
        raise ValueError(f"{name} is an array of {dtype}, whose values have no width")
    if any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"{name} claims the shape {str(shape)[:80]}")
    held = n_bytes - file.tell()
    wanted = math.prod(shape) * dtype.itemsize
    if held != wanted:
        raise ValueError(
            f"{name} claims the shape {str(shape)[:80]} of {dtype}, which is {wanted} bytes, and "
            f"holds {held}"
        )
    return shape, dtype
