"""Files of tensors and a text that carry a digest of every byte of theirs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

ENDING = ".safetensors"

# Of the layout of the files.
_FORMAT = 3

# In place of the digest, while it is computed.
_BLANK = "0" * 64


class DamagedError(Exception):
    """A file is not what was written."""


def seal(text: str, tensors: dict[str, torch.Tensor], told: dict[str, str]) -> bytes:
    """Return the content of a file.

    Parameters
    ----------
    text : str
    tensors : dict of str to torch.Tensor
    told : dict of str to str
        What `read_head` gives, without reading the rest.
    """
    from safetensors.torch import save

    metadata = {**told, "format": str(_FORMAT), "content": text, "digest": _BLANK}
    blank = save(tensors, metadata)
    return _with_digest(blank, _BLANK, hashlib.sha256(blank).hexdigest())


def read_sealed(path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """Return text and tensors of a file, every byte of which is as it was written.

    Raises
    ------
    DamagedError
        If one is not, or the file is of another layout.
    OSError
        If it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    raw = path.read_bytes()
    metadata = _metadata(raw[8 : 8 + _length(raw)])
    digest = str(metadata.get("digest"))
    if hashlib.sha256(_with_digest(raw, digest, _BLANK)).hexdigest() != digest:
        raise DamagedError("its digest is not that of its bytes")
    if metadata.get("format") != str(_FORMAT):
        raise DamagedError(f"it is of layout {metadata.get('format')!r}, wanted {_FORMAT}")
    try:
        return str(metadata.get("content")), load(raw)
    except SafetensorError as error:
        raise DamagedError(str(error)) from error


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
        return _metadata(file.read(min(size, _length(file.read(8)))))


def _length(raw: bytes) -> int:
    return int.from_bytes(raw[:8], "little")


def _metadata(head: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(head)["__metadata__"])
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise DamagedError(f"it does not begin as such files do: {error}") from error


def _with_digest(raw: bytes, then: str, now: str) -> bytes:
    # It is the only entry of this name: in the content, which is text, quotes are escaped.
    end = 8 + _length(raw)
    old, new = (f'"digest":"{digest}"'.encode() for digest in (then, now))
    return raw[:end].replace(old, new) + raw[end:]
