"""From the bytes of a file to the state of a model: dictionaries, values and arrays."""

from __future__ import annotations

from typing import Any

from antibackdoor.persistence._archive import SCHEMA, pack, read_members
from antibackdoor.persistence._arrays import check_array
from antibackdoor.persistence._budget import BYTES_OF_TEXT, check_budget
from antibackdoor.persistence._schema import check_schema, parse_schema, state_schema, without_ids
from antibackdoor.persistence._skops import import_skops
from antibackdoor.persistence._stamp import check_format, take_stamp
from antibackdoor.persistence._types import MODELS, VALUES

#: How much memory a file may take unless the user says otherwise: 4 GiB.
MAX_BYTES = 4 * 2**30

#: How often the arrays are in memory at one time, as skops unpacks them.
_COPIES = 3


def read_state(content: bytes, max_bytes: int) -> tuple[type, dict[str, Any]]:
    """Read the state of a model, and run nothing of the file's.

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
        As `__setstate__` takes it; the digest has been compared.

    Raises
    ------
    ValueError
        If the file is not what `save_model` writes, or a newer version of it does.
    """
    members = read_members(content, max_bytes)
    text = members.pop(SCHEMA)
    unpacked = len(content) + BYTES_OF_TEXT * len(text)
    check_budget("its schema takes", unpacked, max_bytes)
    schema = parse_schema(text)
    writer = check_format(schema)
    model, used = check_schema(schema)
    unpacked += _COPIES * _measure_arrays(members, used, max_bytes)
    check_budget("unpacking it takes", unpacked, max_bytes)
    state = _unpack(without_ids(schema), members)
    if not isinstance(state, dict):
        raise ValueError("the state that it holds is no dictionary")
    take_stamp(state)
    _check_names(model, state, writer)
    return model, state


def _measure_arrays(members: dict[str, bytearray], used: dict[str, int], max_bytes: int) -> int:
    """Check the arrays, and return how much memory they take together."""
    if set(members) != set(used):
        name = sorted(set(members) ^ set(used))[0]
        raise ValueError(f"{name[:80]!r} is an array that is missing or that nothing refers to")
    # One array may stand in many places, and takes memory in each.
    total = sum(used[name] * check_array(name, content) for name, content in members.items())
    if total > max_bytes:
        raise ValueError(f"its arrays take {total} bytes, more than max_bytes={max_bytes}")
    return total


def _unpack(schema: dict[str, Any], members: dict[str, bytearray]) -> Any:
    """Make values of a schema that has been checked, and of its members, which are used up."""
    skops_io = import_skops()
    # What skops itself says of the file; it looks at types alone.
    types = skops_io.get_untrusted_types(data=pack(schema, dict.fromkeys(members, b"")))
    foreign = set(types) - set(MODELS) - set(VALUES)
    if foreign:
        raise ValueError(f"it names the types {sorted(foreign)}, which are none of antibackdoor's")
    packed = pack(state_schema(schema), members)
    members.clear()
    return skops_io.loads(packed, trusted=list(VALUES))


def _check_names(model: Any, state: dict[str, Any], writer: str) -> None:
    """Refuse attributes that would take the place of a method; add new parameters."""
    known = set(model._get_param_names())
    for name in state:
        plain = name.isidentifier() and not name.startswith("__")
        if not plain or (name not in known and hasattr(model, name)):
            raise ValueError(f"it sets the attribute {name[:80]!r}, which is the class's own")
    # An attribute that fit sets ends or begins with an underscore: this was a parameter.
    gone = [name for name in state if name not in known and not _is_attribute(name)]
    if gone:
        raise ValueError(
            f"it was written by {writer}, whose {model.__name__} had the parameters {gone}, "
            f"which this version does not have"
        )
    new = model()
    for name in known - set(state):
        state[name] = getattr(new, name)


def _is_attribute(name: str) -> bool:
    return name.endswith("_") or name.startswith("_") or name == "module_weights"
