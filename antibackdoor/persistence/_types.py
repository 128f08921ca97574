"""The types that a file may name beside Python's own values and numpy's arrays.

They are found in the public packages: a new attack, defence, detector or cure is among them.
"""

from __future__ import annotations

import inspect
from types import ModuleType

from antibackdoor import attacks, defenses, detection
from antibackdoor.attacks import ATTACKS, OneToMany, OneToOne
from antibackdoor.defenses import BaseDefense
from antibackdoor.detection import BaseDetector
from antibackdoor.utils import CheckedParameters, ImageLayout


def _classes_of(*modules: ModuleType) -> list[type]:
    public = [getattr(module, name) for module in modules for name in module.__all__]
    return [kind for kind in public if inspect.isclass(kind) and not inspect.isabstract(kind)]


#: Classes of saved models, by their names in a file.
MODELS: dict[str, type] = {
    kind.__name__: kind
    for kind in [*_classes_of(defenses, detection, attacks), *ATTACKS.values()]
    if issubclass(kind, (BaseDefense, BaseDetector, attacks.BaseAttack))
}

#: Classes of objects in parameters of a classifier: detectors, cures, weightings.
PARTS: dict[str, type[CheckedParameters]] = {
    kind.__name__: kind
    for kind in _classes_of(detection, defenses)
    if issubclass(kind, CheckedParameters) and not issubclass(kind, BaseDefense)
}

#: Frozen dataclasses that an attribute or a parameter of a model may be.
VALUES: dict[str, type] = {kind.__name__: kind for kind in (ImageLayout, OneToMany, OneToOne)}

#: The parameter that names a folder. What a file says must not choose which files a later fit
#: reads and writes.
FOLDER = "cache_dir"
