"""torch as it comes, whatever the program around has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def usual_torch() -> Iterator[None]:
    """Turn gradients on and set the default type and device to float32 and CPU in the block.

    A fit inside the caller's ``torch.no_grad()``, or after their ``set_default_dtype``, is
    the fit that it is elsewhere. Serves as a decorator too.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        # Only where it is another one: a device as a context slows every call of torch.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        dtype = torch.get_default_dtype()
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        yield
