"""Nested states as a JSON text and named tensors, for files without pickles."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Node:
    """A value of a further kind, as it is stored: the name of its kind and its content."""

    kind: str
    content: Any


def _unchanged(value: Any) -> Any:
    return value


def _of_no_kind(node: Node) -> Any:
    raise ValueError(f"there is a {node.kind[:40]!r}, which is no kind of value")


def pack(
    value: Any, further: Callable[[Any], Any] = _unchanged
) -> tuple[str, dict[str, torch.Tensor]]:
    """Split a nested state into a JSON text and named tensors; see `unpack`.

    Parameters
    ----------
    value : object
        None, bool, int, float, str and tensors, in dicts, lists and tuples.
    further : callable
        ``further(value)`` is called for every value first. It returns a `Node`, or the value to
        pack instead. The default returns the value.

    Returns
    -------
    text : str
        JSON of the state, with names in place of the tensors.
    tensors : dict of str to torch.Tensor
        Contiguous copies on the CPU.

    Raises
    ------
    TypeError
        If it contains anything else.
    """
    tensors: dict[str, torch.Tensor] = {}

    def described(value: Any) -> Any:
        value = further(value)
        if isinstance(value, Node):
            return {value.kind: described(value.content)}
        if isinstance(value, torch.Tensor):
            name = str(len(tensors))
            tensors[name] = value.detach().to("cpu", copy=True).contiguous()
            return {"tensor": name}
        if isinstance(value, dict):
            # As pairs, since the keys of an optimiser's state are numbers.
            return {"dict": [[key, described(inner)] for key, inner in value.items()]}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [described(inner) for inner in value]}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"a {type(value).__name__} cannot be kept.")

    return json.dumps(described(value)), tensors


def unpack(text: str, tensors: dict[str, Any], further: Callable[[Node], Any] = _of_no_kind) -> Any:
    """Rebuild a nested state from the result of `pack`.

    Parameters
    ----------
    text : str
    tensors : dict of str to torch.Tensor or other arrays
        As `pack` returned them.
    further : callable
        Returns the value that a `Node` stands for, whose content has been put together. The
        default knows no kind.

    Returns
    -------
    object

    Raises
    ------
    TypeError, ValueError
        If they are not a result of `pack`: each tensor must be used exactly once.
    """
    left = dict(tensors)

    def put_together(pairs: list[tuple[str, Any]]) -> Any:
        if len(pairs) != 1:
            raise ValueError(f"there is a value of {len(pairs)} kinds")
        ((kind, content),) = pairs
        if kind == "tensor":
            if content not in left:
                raise ValueError(f"tensor {str(content)[:40]!r} is missing, or is there twice")
            return left.pop(content)
        if kind in ("dict", "list", "tuple") and not isinstance(content, list):
            raise ValueError(f"there is a {kind} of {type(content).__name__}")
        if kind == "dict":
            entries = {key: value for key, value in content}
            if len(entries) != len(content):
                raise ValueError("a key is there twice")
            return entries
        if kind in ("list", "tuple"):
            return tuple(content) if kind == "tuple" else content
        return further(Node(kind, content))

    value = json.loads(text, object_pairs_hook=put_together)
    if left:
        raise ValueError(f"nothing refers to the tensor {next(iter(left))[:40]!r}")
    return value
