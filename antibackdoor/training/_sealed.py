"""Files of tensors and a text, with a digest over all of their bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

ENDING = ".safetensors"

# Of the layout of the files of a store.
_FORMAT = 3

# In place of the digest, while it is computed.
_BLANK = "0" * 64


class DamagedError(Exception):
    """A file was damaged or changed after it was written."""


def seal(text: str, tensors: dict[str, torch.Tensor], told: dict[str, str]) -> bytes:
    """Return the bytes of a file with a text, tensors, and a digest over all of it.

    Parameters
    ----------
    text : str
    tensors : dict of str to torch.Tensor
    told : dict of str to str
        Entries of the header, which `read_head` and `head_of` return without reading the rest.
        Its ``format`` replaces that of a store.
    """
    from safetensors.torch import save

    metadata = {"format": str(_FORMAT), **told, "content": text, "digest": _BLANK}
    blank = save(tensors, metadata)
    end = _end_of_head(blank)
    return _with_digest(blank[:end], _BLANK, _digest(blank, _BLANK)) + blank[end:]


def unseal(raw: bytes) -> tuple[str, dict[str, torch.Tensor]]:
    """Return text and tensors of a file from `seal`, after checking its digest.

    Raises
    ------
    DamagedError
        If a byte differs.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    metadata = head_of(raw)
    digest = str(metadata.get("digest"))
    if _digest(raw, digest) != digest:
        raise DamagedError("its digest is not that of its bytes")
    try:
        return str(metadata.get("content")), load(raw)
    except (KeyError, SafetensorError) as error:  # KeyError: a type that torch does not have
        raise DamagedError(f"its tensors cannot be read: {error}") from error


def read_sealed(path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """Return text and tensors of a file of a store, every byte of which is as it was written.

    Raises
    ------
    DamagedError
        If one is not, or the file is of another layout.
    OSError
        If it cannot be read.
    """
    raw = path.read_bytes()
    content = unseal(raw)
    layout = head_of(raw).get("format")
    if layout != str(_FORMAT):
        raise DamagedError(f"it is of layout {layout!r}, wanted {_FORMAT}")
    return content


def read_head(path: Path) -> dict[str, Any]:
    """Return what a file tells without being read whole.

    Raises
    ------
    DamagedError
        If it does not begin as such files do.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        return _metadata(file.read(min(size, head_length(file.read(8)))))


def head_of(raw: bytes) -> dict[str, Any]:
    """Return the entries of the header of a file from `seal`.

    Raises
    ------
    DamagedError
        If it does not begin as such files do.
    """
    return _metadata(raw[8 : _end_of_head(raw)])


def head_length(raw: bytes) -> int:
    """Return the length of the header of a file from `seal`, in bytes."""
    return int.from_bytes(raw[:8], "little")


def _end_of_head(raw: bytes) -> int:
    return 8 + head_length(raw)


def _metadata(head: bytes) -> dict[str, Any]:
    try:
        head_of_file = json.loads(head, object_pairs_hook=_without_repeats)
        return dict(head_of_file.get("__metadata__", {}))
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise DamagedError(f"it does not begin as such files do: {error}") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name is there twice")
    return entries


def _digest(raw: bytes, digest: str) -> str:
    end = _end_of_head(raw)
    computed = hashlib.sha256(_with_digest(raw[:end], digest, _BLANK))
    computed.update(memoryview(raw)[end:])
    return computed.hexdigest()


def _with_digest(head: bytes, then: str, now: str) -> bytes:
    # It is the only entry of this name: in the content, which is text, quotes are escaped.
    old, new = (f'"digest":"{digest}"'.encode() for digest in (then, now))
    return head.replace(old, new)
