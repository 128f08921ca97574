"""From the bytes of a file to the state of a model: dictionaries, values and arrays."""

from __future__ import annotations

import re
from typing import Any

from antibackdoor.persistence._format import read_description
from antibackdoor.persistence._values import check_known, make_reader
from antibackdoor.training._pack import unpack
from antibackdoor.training._sealed import DamagedError, unseal

#: Default limit of the memory of loading: 4 GiB.
MAX_BYTES = 4 * 2**30

#: Of brackets in the text of a state; a fit leaves fewer than half of that.
_MAX_DEPTH = 64

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"|([\[{])|([\]}])')


def read_state(content: bytes, max_bytes: int) -> tuple[type, dict[str, Any]]:
    """Read the state of a model, without running code of the file.

    Parameters
    ----------
    content : bytes
        Of the file.
    max_bytes : int
        How much memory that may take.

    Returns
    -------
    model : type
        The class that it is the state of.
    state : dict of str to object
        As `__setstate__` takes it.

    Raises
    ------
    ValueError
        If the file is not what `save_model` writes, or a newer version of it does.
    """
    try:
        model, writer = read_description(content, max_bytes)
        text, tensors = unseal(content)
    except DamagedError as error:
        raise ValueError(str(error)) from error
    _check_depth(text)
    # The arrays share the memory of the tensors.
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    state = unpack(text, arrays, make_reader(max_bytes, writer))
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ValueError("the state that it holds is no dictionary of attributes")
    _check_names(model, state, writer)
    return model, state


def _check_depth(text: str) -> None:
    depth = 0
    for found in _BRACKETS.finditer(text):
        depth += bool(found[1]) - bool(found[2])
        if depth > _MAX_DEPTH:
            raise ValueError("the state that it holds is nested too deeply")


def _check_names(model: Any, state: dict[str, Any], writer: str) -> None:
    """Refuse attributes that would replace a method; add new parameters."""
    known = set(model._get_param_names())
    for name in state:
        plain = name.isidentifier() and not name.startswith("__")
        if not plain or (name not in known and hasattr(model, name)):
            raise ValueError(f"it sets the attribute {name[:80]!r}, which is the class's own")
    # An attribute that fit sets ends or begins with an underscore: this was a parameter.
    parameters = [name for name in state if name in known or not _is_attribute(name)]
    check_known(model.__name__, parameters, known, writer)
    new = model()
    for name in known - set(state):
        state[name] = getattr(new, name)


def _is_attribute(name: str) -> bool:
    return name.endswith("_") or name.startswith("_") or name == "module_weights"
