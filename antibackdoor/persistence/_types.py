"""The types that a file may name beside Python's own values and numpy's arrays."""

from __future__ import annotations

import inspect

from antibackdoor import attacks, defenses
from antibackdoor.attacks import ATTACKS, OneToMany, OneToOne
from antibackdoor.defenses import BaseDefense
from antibackdoor.utils import ImageLayout


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


_PUBLIC = [getattr(module, name) for module in (defenses, attacks) for name in module.__all__]

#: What a file is of, by the name it has there.
MODELS: dict[str, type] = {
    _full_name(kind): kind
    for kind in [*_PUBLIC, *ATTACKS.values()]
    if inspect.isclass(kind)
    and issubclass(kind, (BaseDefense, attacks.BaseAttack))
    and not inspect.isabstract(kind)
}

#: Frozen dataclasses that an attribute or a parameter of a model may be.
VALUES: dict[str, type] = {_full_name(kind): kind for kind in (ImageLayout, OneToMany, OneToOne)}

#: Parameters that name a folder. What a file says must not choose which files a later fit
#: reads and writes, and joblib unpickles what it finds in the first.
FOLDERS = ("memory", "cache_dir")
