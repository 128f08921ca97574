"""The tree of nodes that skops builds objects from: which nodes a file of ours may have."""

from __future__ import annotations

import json
from typing import Any

from antibackdoor.persistence._arrays import is_scalar_type
from antibackdoor.persistence._types import MODELS, VALUES

_MAX_DEPTH = 40

_PLACE = {"__class__", "__module__", "__loader__", "__id__"}
_ROOT = {"protocol", "_skops_version"}

#: Loader: the types it may make, and the entries of its node.
_PLAIN: dict[str, tuple[set[str], set[str]]] = {
    "DictNode": ({"builtins.dict"}, {"content", "key_types"}),
    "ListNode": ({"builtins.list"}, {"content"}),
    "TupleNode": ({"builtins.tuple"}, {"content"}),
    "JsonNode": ({"builtins.str"}, {"content", "is_json"}),
    "RandomStateNode": ({"numpy.random.mtrand.RandomState"}, {"content"}),
    "ObjectNode": (set(VALUES), {"content"}),
}


def parse_schema(text: bytes | bytearray) -> dict[str, Any]:
    """Read the JSON text of a schema.

    Raises
    ------
    ValueError
        If it is no JSON, has a key twice, or does not describe an object.
    """
    try:
        schema = json.loads(text.decode(), object_pairs_hook=_without_repeats)
    except RecursionError as error:
        raise ValueError("its schema is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"its schema is no JSON that skops writes ({error})") from error
    if not isinstance(schema, dict):
        raise ValueError("its schema describes no object")
    return schema


def check_schema(schema: dict[str, Any]) -> tuple[type, dict[str, int]]:
    """Refuse a tree with any node that a model of ours does not need.

    skops trusts more than is needed here: every estimator of scikit-learn, for one, with
    whatever attributes a file gives it.

    Parameters
    ----------
    schema : dict
        From `parse_schema`.

    Returns
    -------
    model : type
        The class that the file is of.
    used : dict of str to int
        Members that hold arrays, and how often each is used.

    Raises
    ------
    ValueError
        If a node is of another type, is malformed, or is nested too deeply.
    """
    kind = _type_name(schema)
    if schema.get("__loader__") != "ObjectNode" or kind not in MODELS:
        raise ValueError(
            f"it is of the type {kind[:120]!r}, which is no classifier or attack of antibackdoor"
        )
    if set(schema) != {*_PLACE, *_ROOT, "content"}:
        raise ValueError("the outermost node of its schema has other entries than skops writes")
    used: dict[str, int] = {}
    pending = [(schema["content"], 1)]
    while pending:
        node, depth = pending.pop()
        if depth > _MAX_DEPTH:
            raise ValueError("its schema is nested too deeply")
        pending += [(child, depth + 1) for child in _check_node(node, used)]
    return MODELS[kind], used


def without_ids(node: Any) -> Any:
    """Return a schema, or part of one, without the numbers by which nodes refer to each other.

    A file of ours needs none, and by them a node could be replaced by one that was checked
    in another place.

    Parameters
    ----------
    node : dict, list or plain value
        From a schema that `check_schema` has passed, which says how deep it is.

    Returns
    -------
    dict, list or plain value
    """
    if isinstance(node, dict):
        return {key: without_ids(value) for key, value in node.items() if key != "__id__"}
    if isinstance(node, list):
        return [without_ids(value) for value in node]
    return node


def state_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a model's state alone, a dictionary, for skops to load."""
    return {**schema["content"], **{key: schema[key] for key in _ROOT}}


def read_plain(schema: dict[str, Any], *keys: str) -> Any:
    """Return a string or number from nested dictionaries of the state; None if there is none.

    For what has to be known before the schema is checked.
    """
    node: Any = schema.get("content")
    for key in keys:
        content = node.get("content") if isinstance(node, dict) else None
        node = content.get(key) if isinstance(content, dict) else None
    if not isinstance(node, dict) or node.get("__loader__") != "JsonNode":
        return None
    try:
        return json.loads(node["content"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key is there twice")
    return entries


def _type_name(node: dict[str, Any]) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')}"


def _check_node(node: Any, used: dict[str, int]) -> list[Any]:
    """Check one node, and return those it is made of."""
    if not isinstance(node, dict):
        raise ValueError(f"its schema has {type(node).__name__} where a node is wanted")
    loader, kind = node.get("__loader__"), _type_name(node)
    if loader == "NdArrayNode":
        return _check_array_node(node, used)
    if not isinstance(loader, str) or loader not in _PLAIN or kind not in _PLAIN[loader][0]:
        raise ValueError(
            f"it names the type {kind[:120]!r} (to be made by {str(loader)[:40]!r}), which no "
            f"model of antibackdoor needs"
        )
    _check_entries(node, _PLAIN[loader][1])
    content = node["content"]
    if loader == "JsonNode":
        _check_scalar(content)
        return []
    if loader in ("ListNode", "TupleNode"):
        return _as_list(content)
    if loader == "DictNode":
        _check_keys(content, node["key_types"])
        return list(content.values())
    return [content]


def _check_entries(node: dict[str, Any], wanted: set[str]) -> None:
    if set(node) - {"__id__"} != (_PLACE - {"__id__"}) | wanted:
        raise ValueError(f"a {node['__loader__']} of its schema has the entries {sorted(node)}")


def _as_list(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise ValueError(f"its schema has {type(content).__name__} where a list is wanted")
    return content


def _check_scalar(content: Any) -> None:
    try:
        value = json.loads(content)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"its schema has a value that is no JSON ({error})") from error
    if isinstance(value, list | dict):
        raise ValueError(f"its schema has {type(value).__name__} where one value is wanted")


def _check_keys(content: Any, key_types: Any) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"its schema has {type(content).__name__} where a dict is wanted")
    kinds = _as_list(key_types.get("content") if isinstance(key_types, dict) else None)
    nodes = [key_types, *kinds]
    # skops pairs keys with types and drops those left over.
    if (
        not all(isinstance(node, dict) for node in nodes)
        or any(node.get("__loader__") != "TypeNode" for node in kinds)
        or any(_type_name(node) != "builtins.str" for node in kinds)
        or (key_types.get("__loader__"), _type_name(key_types)) != ("ListNode", "builtins.list")
        or len(kinds) != len(content)
    ):
        raise ValueError(
            "a dictionary of its schema has keys that are no text, or not one type each"
        )


def _check_array_node(node: dict[str, Any], used: dict[str, int]) -> list[Any]:
    kind = _type_name(node)
    module, _, name = kind.rpartition(".")
    if kind != "numpy.ndarray" and not (module == "numpy" and is_scalar_type(name)):
        raise ValueError(f"it names the type {kind[:120]!r} for an array, wanted numpy.ndarray")
    if node.get("type") == "numpy":
        _check_entries(node, {"type", "file"})
        if not isinstance(node["file"], str):
            raise ValueError("an array of its schema names no member")
        used[node["file"]] = used.get(node["file"], 0) + 1
        return []
    _check_entries(node, {"type", "content", "shape"})
    items, shape = _as_list(node["content"]), node["shape"]
    sizes = shape.get("content") if isinstance(shape, dict) else None
    # Labels and names of columns that are Python's strings; nothing else is held as objects.
    if kind != "numpy.ndarray" or not isinstance(sizes, list) or len(sizes) != 1:
        raise ValueError("an array of objects in its schema has more than one axis, or none")
    return [*items, shape]
