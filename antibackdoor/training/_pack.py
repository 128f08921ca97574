"""Nested states as one text and named tensors: what a file without pickles can hold."""

from __future__ import annotations

import json
from typing import Any

import torch


def pack(value: Any) -> tuple[str, dict[str, torch.Tensor]]:
    """Take the tensors out of a state.

    Parameters
    ----------
    value : object
        None, bool, int, float, str and tensors, in dicts, lists and tuples.

    Returns
    -------
    text : str
        JSON of the rest, with names in place of the tensors.
    tensors : dict of str to torch.Tensor
        Copies, contiguous and in the memory of the CPU.

    Raises
    ------
    TypeError
        If there is anything else in it.
    """
    tensors: dict[str, torch.Tensor] = {}
    return json.dumps(_described(value, tensors)), tensors


def _described(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        # As pairs: the keys of an optimiser's state are numbers.
        return {"dict": [[key, _described(inner, tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_described(inner, tensors) for inner in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be kept.")


def unpack(text: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Put a state together again.

    Parameters
    ----------
    text : str
    tensors : dict of str to torch.Tensor
        As `pack` returned them.

    Returns
    -------
    object

    Raises
    ------
    KeyError, TypeError, ValueError
        If they are not what `pack` returns.
    """
    return _put_together(json.loads(text), tensors)


def _put_together(described: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(described, dict):
        return described
    ((kind, inner),) = described.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "dict":
        return {key: _put_together(value, tensors) for key, value in inner}
    values = [_put_together(value, tensors) for value in inner]
    return tuple(values) if kind == "tuple" else values
