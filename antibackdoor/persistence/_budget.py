"""Limits on the memory of loading, computed before memory is allocated."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Less than this is not counted: a model of a few kB takes it too.
ALLOWANCE = 16 * 2**20

#: Memory of a node of a file's tree for each byte of its text: parsed, copied and made an object.
BYTES_OF_TEXT = 64

#: Memory of a module for each of its arrays, beside their values.
BYTES_OF_AN_ARRAY = 2**13

#: Memory of an item of an array of text, beside its letters, once it is listed.
BYTES_OF_A_LABEL = 128


def check_budget(what: str, n_bytes: int, max_bytes: int) -> None:
    """Refuse to load if it would need more memory than the user allows.

    Parameters
    ----------
    what : str
        Subject of the message.
    n_bytes : int
        That it takes.
    max_bytes : int

    Raises
    ------
    ValueError
        If it is more than `max_bytes`, and more than goes uncounted.
    """
    if n_bytes > max(max_bytes, ALLOWANCE):
        raise ValueError(
            f"{what} {n_bytes} bytes of memory, more than max_bytes={max_bytes}; give a larger "
            f"max_bytes if you trust it"
        )


class CountedMemory(TorchDispatchMode):
    """Count tensors inside the block: `peak` is the largest memory at one time, in bytes.

    Tensors of torch's meta device count as if they had values, so that what a network
    takes is known before it is taken.

    Parameters
    ----------
    limit : int, default=None
        A block that holds more ends in a ValueError.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.peak = 0
        self._held = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        answer = func(*args, **(kwargs or {}))
        tensors = [value for value in tree_leaves(answer) if isinstance(value, torch.Tensor)]
        for tensor in tensors:
            self._count(tensor)
        needed = self._held + _working_memory(func, args, tensors)
        self.peak = max(self.peak, needed)
        if self.limit is not None:
            check_budget("its network takes", needed, self.limit)
        return answer

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        n_bytes = storage.nbytes()
        self._known.add(key)
        self._held += n_bytes
        weakref.finalize(storage, self._forget, key, n_bytes)

    def _forget(self, key: int, n_bytes: int) -> None:
        self._known.discard(key)
        self._held -= n_bytes


def _working_memory(func: Any, args: Any, answers: list[torch.Tensor]) -> int:
    """Return the memory that an operation needs besides its inputs and results.

    A convolution copies both into a layout of its own. One that no library does for torch,
    such as of float64, writes down what each place of the answer sees.
    """
    if func is not torch.ops.aten.convolution.default:
        return 0
    inputs, weight = args[0], args[1]
    (answer,) = answers
    copies = inputs.nbytes + answer.nbytes + weight.nbytes
    if inputs.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return copies
    of_an_answer = inputs.shape[1] * math.prod(weight.shape[2:])
    n_answers = answer.numel() // max(1, answer.shape[1])
    return copies + of_an_answer * n_answers * inputs.element_size()
