"""The header of a model file: format, version of the package, class of the model."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from antibackdoor.persistence._budget import BYTES_OF_TEXT, check_budget
from antibackdoor.persistence._types import MODELS
from antibackdoor.training._sealed import head_length, head_of

#: Raised when files are written that an older version of the package cannot read. Format 1 were
#: files of skops.
FORMAT = 2

#: Number of copies of the arrays in memory while safetensors unpacks them.
_COPIES = 2

_ZIP = b"PK\x03\x04"


def describe(model: Any) -> dict[str, str]:
    """Return the entries of the header of a model file."""
    return {
        "format": str(FORMAT),
        "antibackdoor": version("antibackdoor"),
        "model": type(model).__name__,
    }


def read_description(content: bytes, max_bytes: int) -> tuple[type, str]:
    """Read the header of a file, after checking its size and that of the file.

    Parameters
    ----------
    content : bytes
        Of the file.
    max_bytes : int
        How much memory reading it may take.

    Returns
    -------
    model : type
        The class that the file is of.
    writer : str
        Which version wrote the file, for messages.

    Raises
    ------
    ValueError
        If the file is of another kind, cut, too large, or of a format that this version does
        not know.
    DamagedError
        If it does not begin as such files do.
    """
    if content.startswith(_ZIP):
        raise ValueError(
            "it is a zip archive, such as the files of skops that development versions wrote, and "
            "no file of safetensors as save_model writes: fit again"
        )
    length = head_length(content)
    if length < 2 or length > len(content) - 8:
        raise ValueError("it is cut, or no file of safetensors as save_model writes")
    check_budget("reading it takes", _COPIES * len(content) + BYTES_OF_TEXT * length, max_bytes)
    told = head_of(content)
    if "model" not in told:
        raise ValueError(
            "it is a file of safetensors that save_model did not write, such as weights alone or "
            "a phase of cache_dir"
        )
    number, writer, kind = (str(told.get(name)) for name in ("format", "antibackdoor", "model"))
    if not re.fullmatch(r"[1-9][0-9]{0,8}", number) or "antibackdoor" not in told:
        raise ValueError(f"it says that its format is {number[:40]!r} of version {writer[:40]!r}")
    named = f"antibackdoor {writer[:40]!r}"
    if int(number) > FORMAT:
        raise ValueError(
            f"it was written by {named} in format {number}; this is antibackdoor "
            f"{version('antibackdoor')!r}, which reads format {FORMAT}: install a newer one"
        )
    if int(number) < FORMAT:
        raise ValueError(f"it says that its format is {number}, which were files of skops")
    if kind not in MODELS:
        raise ValueError(
            f"it is of the type {kind[:120]!r}, which is no classifier, detector or "
            f"attack of antibackdoor"
        )
    return MODELS[kind], named
