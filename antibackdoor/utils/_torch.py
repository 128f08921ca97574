"""torch with its default settings, whatever the program has set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import isfunction
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

Kind = TypeVar("Kind", bound=type)

#: What torch may compute on in lower precision, by itself and where the program asks for it.
_AUTOCAST_DEVICES = (
    *("cpu", "cuda", "xpu", "mps", "hpu", "ipu", "xla", "mtia", "maia"),
    "privateuseone",
)

#: Make tensors of the default type unless they are given one.
_OF_DEFAULT_TYPE = {
    *(torch.empty, torch.empty_permuted, torch.empty_strided, torch.zeros, torch.ones, torch.eye),
    *(torch.rand, torch.randn, torch.linspace, torch.logspace),
    *(torch.hann_window, torch.hamming_window, torch.bartlett_window, torch.blackman_window),
    torch.kaiser_window,
}

#: Make tensors of the type of the values given, which is the default one where these are floats.
_OF_TYPE_OF_VALUES = {
    *(torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor),
    *(torch.full, torch.arange, torch.range),
}


@contextmanager
def usual_torch() -> Iterator[None]:
    """Run the block with torch's default settings.

    Gradients are on, autocast is off for every device, and the default type and device are
    float32 and CPU. So a fit inside the caller's ``torch.no_grad()`` or ``torch.autocast``, or
    after ``set_default_dtype``, gives the same result as elsewhere. Only this thread is affected.
    It can be used as a decorator too.
    """
    _THREADS.used = True
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device_type in _AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device_type):
                # As `torch.autocast` does, which warns where there is no such device.
                torch.set_autocast_enabled(device_type, False)
                stack.callback(partial(torch.set_autocast_enabled, device_type, True))
        # Only where they are others: a mode slows every call of torch.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.get_default_dtype() != torch.float32:
            stack.enter_context(DefaultFloat32())
        yield


def in_usual_torch(kind: Kind) -> Kind:
    """Class decorator: run all public methods that the class defines in `usual_torch`."""
    for name, method in list(vars(kind).items()):
        if isfunction(method) and not name.startswith("_"):
            setattr(kind, name, usual_torch()(method))
    return kind


class _Threads:
    """Keeps a forked process from waiting for threads that only its parent has.

    OpenMP counts on the threads that it has started, and these are not in the child: its first
    sum of many numbers would wait for ever. On one thread torch needs none of them.
    """

    def __init__(self) -> None:
        self.used = False

    def after_fork(self) -> None:
        if self.used and torch.get_num_threads() > 1:
            torch.set_num_threads(1)


_THREADS = _Threads()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_THREADS.after_fork)


class DefaultFloat32(TorchFunctionMode):
    """Make new float tensors float32 inside the block, in this thread only.

    ``torch.set_default_dtype`` would set the type for all threads of the process.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("dtype") is not None or kwargs.get("out") is not None:
            return func(*args, **kwargs)
        if func in _OF_DEFAULT_TYPE or (
            func is torch.normal and ("size" in kwargs or len(args) > 2)
        ):
            return func(*args, **{**kwargs, "dtype": torch.float32})
        made = func(*args, **kwargs)
        if func in _OF_TYPE_OF_VALUES and not _have_type([*args, *kwargs.values()]):
            wanted = torch.complex64 if made.is_complex() else torch.float32
            if made.dtype != wanted and (made.is_floating_point() or made.is_complex()):
                # Made anew: the other type may have fewer digits.
                return func(*args, **{**kwargs, "dtype": wanted})
        return made


def _have_type(values: list[Any]) -> bool:
    """Tell whether some of the values are arrays, whose type is that of what is made of them."""
    return any(hasattr(value, "dtype") for value in values)
