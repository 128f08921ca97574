"""Which torch device a name stands for."""

from __future__ import annotations

import os

import torch


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the torch device that `device` names.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` (CUDA where there is one, else the CPU) or any name that
        torch knows, such as ``"cpu"`` or ``"cuda:1"``. Of the processes that torchrun has
        started on a machine, ``"auto"`` gives each a GPU of its own.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If torch does not know the name or the machine has no such device.

    Examples
    --------
    >>> from antibackdoor.utils import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        number = os.environ.get("LOCAL_RANK", "")
        device = f"cuda:{number}" if number.isdigit() else "cuda"
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} cannot be used on this machine; give 'auto', 'cpu' or "
            f"the name of a device torch can reach here. torch says: {error}"
        ) from error
    if resolved.type == "meta":
        raise ValueError("device='meta' holds no data; give 'auto', 'cpu' or 'cuda'.")
    return resolved
