"""From the bytes of a file to the state of a model: dictionaries, values and arrays."""

from __future__ import annotations

from typing import Any

from antibackdoor.persistence._archive import SCHEMA, pack, read_members
from antibackdoor.persistence._arrays import check_array
from antibackdoor.persistence._schema import check_schema, parse_schema, state_schema, without_ids
from antibackdoor.persistence._skops import import_skops
from antibackdoor.persistence._stamp import check_format, take_stamp
from antibackdoor.persistence._types import MODELS, VALUES

#: How much a file may unpack to unless the user says otherwise: 4 GiB.
MAX_BYTES = 4 * 2**30


def read_state(content: bytes, max_bytes: int) -> tuple[type, dict[str, Any]]:
    """Read the state of a model, and run nothing of the file's.

    Parameters
    ----------
    content : bytes
        Of the file.
    max_bytes : int
        How much it may unpack to.

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
    schema = parse_schema(members.pop(SCHEMA))
    writer = check_format(schema)
    model, used = check_schema(schema)
    _check_arrays(members, used, max_bytes)
    schema = without_ids(schema)
    state = _unpack(pack(state_schema(schema), members), pack(schema, members))
    if not isinstance(state, dict):
        raise ValueError("the state that it holds is no dictionary")
    take_stamp(state)
    _check_names(model, state, writer)
    return model, state


def _check_arrays(members: dict[str, bytes], used: dict[str, int], max_bytes: int) -> None:
    if set(members) != set(used):
        name = sorted(set(members) ^ set(used))[0]
        raise ValueError(f"{name[:80]!r} is an array that is missing or that nothing refers to")
    for name, content in members.items():
        check_array(name, content)
    # One array may stand in many places, and takes memory in each.
    total = sum(count * len(members[name]) for name, count in used.items())
    if total > max_bytes:
        raise ValueError(f"its arrays take {total} bytes, more than max_bytes={max_bytes}")


def _unpack(state: bytes, whole: bytes) -> Any:
    skops_io = import_skops()
    # What skops itself says of the file; the schema has been looked through before.
    foreign = set(skops_io.get_untrusted_types(data=whole)) - set(MODELS) - set(VALUES)
    if foreign:
        raise ValueError(f"it names the types {sorted(foreign)}, which are none of antibackdoor's")
    return skops_io.loads(state, trusted=list(VALUES))


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
