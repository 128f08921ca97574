"""A user's own network: it is not saved, and must be given again when loading."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from antibackdoor.backbones import Backbone, Pretrained
from antibackdoor.persistence._types import PARTS

#: Stands in the file for a module or a callable; no name of a backbone.
OWN_BACKBONE = "<a network of your own: give it to load_model(path, backbone=...)>"

#: Parameters that are a backbone, and where a fitted model keeps what it was fitted with.
_PARAMETERS = ("backbone", "surrogate", "_fitted_surrogate")


def leave_out_own(attributes: dict[str, Any]) -> Backbone | None:
    """Replace the user's own network in the attributes of a model, and return it.

    A network that began from weights is kept by its name, which is enough to build it: the
    weights that it has now are in the file.

    Parameters
    ----------
    attributes : dict
        With detectors, and what it was fitted with, that are changed too.

    Raises
    ------
    ValueError
        If there are two different ones: after loading there is one.
    """
    for kept, name in _places(attributes):
        if isinstance(kept[name], Pretrained):
            kept[name] = kept[name].name
    places = [(kept, name) for kept, name in _places(attributes) if not isinstance(kept[name], str)]
    own = [kept[name] for kept, name in places]
    if any(other is not own[0] for other in own):
        raise ValueError(
            "it has two different networks of your own, and a file can be given one: use the same "
            "for classifier and detector; if it was set to another after fit, fit again, or set "
            "it back to what was fitted"
        )
    for kept, name in places:
        kept[name] = OWN_BACKBONE
    return own[0] if own else None


def put_back_own(state: dict[str, Any], backbone: Backbone | None) -> None:
    """Put the user's own network where the file says that there was one.

    Raises
    ------
    ValueError
        If it is wanted and not given, or given and not wanted.
    """
    own = [(kept, name) for kept, name in _places(state) if isinstance(kept[name], str)]
    places = [(kept, name) for kept, name in own if kept[name] == OWN_BACKBONE]
    if places and backbone is None:
        raise ValueError(
            "it was fitted with a network of your own, which no file holds; give the module or "
            "callable again: load_model(path, backbone=...)"
        )
    if backbone is not None and not places:
        raise ValueError("backbone= was given, but the file names its own: leave backbone=None")
    for kept, name in places:
        kept[name] = backbone


def _places(attributes: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    fitted = attributes.get("_fitted_with")
    parts = [vars(value) for value in attributes.values() if type(value) in PARTS.values()]
    for kept in [attributes, *parts, *([fitted] if isinstance(fitted, dict) else [])]:
        for name in _PARAMETERS:
            if name in kept:
                yield kept, name
