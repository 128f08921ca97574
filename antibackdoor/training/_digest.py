"""A digest of everything that the result of a phase depends on."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable
from typing import Any, Protocol

import joblib
import numpy as np
import torch
from torch import nn

from antibackdoor.training._samples import Samples


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def digest_of(value: Any) -> str:
    """Return a digest of a value: equal for values that are the same to a phase.

    It covers type, shape and content of tensors and arrays; the state of generators; layers,
    weights and mode of modules; name, code and closure of functions; class and attributes of any
    other object.

    Returns
    -------
    str
        Thirty-two hexadecimal digits.
    """
    digest = hashlib.sha256()
    _add(digest, value, [])
    return digest.hexdigest()[:32]


def _add(digest: _Hash, value: Any, within: list[int]) -> None:
    """Add a value to a digest; `within` are the objects that it lies in, by their ids."""
    digest.update(f"<{type(value).__module__}.{type(value).__qualname__}>".encode())
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | type):
        digest.update(repr(value).encode())
    elif isinstance(value, torch.Tensor):
        dense = value.detach().cpu().resolve_conj().contiguous()
        digest.update(f"{dense.dtype}{tuple(dense.shape)}".encode())
        if dense.numel():  # as bytes: numpy has not all types of torch
            digest.update(dense.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, torch.Generator):
        _add(digest, value.get_state(), within)
    elif isinstance(value, torch.device | torch.dtype):
        digest.update(repr(value).encode())
    elif isinstance(value, Samples):
        # The rows themselves are digested once for the whole fit.
        _add(digest, [len(value), value.input_shape, value.dtype], within)
    elif id(value) in within:
        # A reference to an enclosing object counts by its distance.
        digest.update(str(len(within) - within.index(id(value))).encode())
    else:
        parts = _parts(value)
        if parts is None:
            digest.update(joblib.hash(value).encode())
        else:
            for part in parts:
                _add(digest, part, [*within, id(value)])
            digest.update(b"</>")


def _parts(value: Any) -> list[Any] | None:
    """Return the parts of an object; None if only pickle can take it apart."""
    if isinstance(value, dict):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, nn.Module):
        return [str(value), value.training, dict(value.state_dict())]
    if isinstance(value, torch.optim.Optimizer):
        return [value.state_dict()]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, types.FunctionType):
        return _parts_of_function(value)
    if isinstance(value, types.CodeType):
        return [value.co_code, value.co_names, list(value.co_consts)]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if hasattr(value, "__dict__") and not isinstance(value, types.ModuleType):
        return [vars(value)]
    return None


def _parts_of_function(function: Callable[..., Any]) -> list[Any]:
    assert isinstance(function, types.FunctionType)
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    defaults = [function.__defaults__, function.__kwdefaults__]
    return [function.__qualname__, function.__code__, defaults, cells]
