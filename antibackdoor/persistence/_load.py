"""Read a model back from a file that is not trusted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import nn

from antibackdoor.backbones import Backbone
from antibackdoor.persistence._build import build_model
from antibackdoor.persistence._messages import without_stop
from antibackdoor.persistence._read import MAX_BYTES, read_state
from antibackdoor.utils import check_count, require


def load_model(
    path: str | os.PathLike[str], *, backbone: Backbone | None = None, max_bytes: int = MAX_BYTES
) -> Any:
    """Load a classifier, detector or attack from a file of `save_model`, running no code of it.

    The file need not be trusted: nothing in it is run or imported. It must hold a class of this
    package, made of plain values and arrays that fit each other. Sizes are checked before
    anything is read, names and shapes before a network is built.

    The quality of the model cannot be checked. Whoever wrote the file chose its weights, and may
    have given it a backdoor.

    Parameters
    ----------
    path : str or path-like
        From `save_model`.
    backbone : torch.nn.Module or callable, default=None
        The network of your own that the model was fitted with (`backbone` of a classifier or
        detector, `surrogate` of an attack), wanted for such a model and no other: its code is
        not in the file. A module is copied, and gets the weights of the file.
    max_bytes : int, default=4 GiB
        Memory that loading may take, in bytes: the file, its arrays, the network and what that
        makes of an image of the size that the file claims. It is counted before it is taken; a
        file needs about four times its own size. The first 16 MiB are not counted.

    Returns
    -------
    classifier, detector or attack
        As it was written, with its networks on the CPU; `cache_dir`, callbacks and metadata
        requests are as in a new one.

    Raises
    ------
    ValueError
        If the file is cut, damaged, of another kind, of a newer version, too large, or
        holds what does not fit together; if `backbone` is missing or not wanted; or if
        `max_bytes` is not positive. The message begins with the name of the file.
    TypeError
        If `backbone` is neither a module nor a callable, or `max_bytes` no whole number.
    OSError
        If the file cannot be read: `FileNotFoundError` if there is none.
    ImportError
        If safetensors is not installed: the extra ``persist``.

    See Also
    --------
    save_model : Write the file.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from antibackdoor import load_model, save_model
    >>> from antibackdoor.attacks import BadNets
    >>> attack = BadNets(target_label=1).fit(np.zeros((2, 8, 8), dtype=np.uint8), [0, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(attack, f"{folder}/attack.safetensors")
    ...     load_model(f"{folder}/attack.safetensors")
    BadNets(target_label=1)
    """
    path = Path(path)
    max_bytes = check_count(f"{path}: max_bytes", max_bytes)
    if backbone is not None and (
        isinstance(backbone, str) or not (isinstance(backbone, nn.Module) or callable(backbone))
    ):
        raise TypeError(
            f"{path}: backbone={backbone!r}; wanted a torch.nn.Module or a callable "
            f"(input_shape, n_classes) -> torch.nn.Module. A named one is in the file."
        )
    require("a model file", "persist", "safetensors")
    content = _read_bytes(path, max_bytes)
    try:
        kind, state = read_state(content, max_bytes)
        del content  # its memory is the network's now
        return build_model(kind, state, backbone, max_bytes)
    except ValueError as error:
        raise ValueError(f"{path} is not loaded: {without_stop(error)}.") from error
    except Exception as error:
        # No list is long enough for what a broken file makes numpy, safetensors and torch
        # raise, down to MemoryError.
        name = type(error).__name__
        raise ValueError(f"{path} is not loaded: {name}: {without_stop(error)}.") from error


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    # A device or a pipe may have no end, or no beginning, to wait for.
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path} is not loaded: it is no regular file.")
    with path.open("rb") as file:
        # Asked for more, Python takes memory for all that it is asked for.
        content = file.read(min(os.fstat(file.fileno()).st_size, max_bytes) + 1)
    if len(content) > max_bytes:
        raise ValueError(
            f"{path} is not loaded: it has more than max_bytes={max_bytes}; give a larger "
            f"max_bytes if you trust it."
        )
    return content
