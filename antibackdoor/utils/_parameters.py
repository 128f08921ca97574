"""Constructors made from the parameters that a class lists."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, dataclass_transform

Kind = TypeVar("Kind", bound=type)


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
def parameters(kind: Kind) -> Kind:
    """Give a class a constructor that assigns its parameters, those of its bases included.

    A parameter is an annotated attribute with a default. It stands once, in the class that it
    belongs to; a class below may give it another default. What `fit` sets is marked by
    ``field(init=False)`` where it is annotated.

    Raises
    ------
    TypeError
        If it has a constructor, if the default of an inherited parameter is changed without a
        type, which would be ignored, if a parameter has no default, or if its default is an
        estimator, which all would share.

    Examples
    --------
    >>> from sklearn.base import BaseEstimator
    >>> from antibackdoor.utils import parameters
    >>> @parameters
    ... class Trained(BaseEstimator):
    ...     epochs: int = 10
    ...     momentum: float = 0.9
    >>> @parameters
    ... class Shorter(Trained):
    ...     epochs: int = 5
    >>> Shorter(momentum=0.5).get_params()
    {'epochs': 5, 'momentum': 0.5}
    """
    if "__init__" in vars(kind):
        raise TypeError(f"{kind.__name__} has a constructor; wanted none, or no @parameters.")
    own = inspect.get_annotations(kind)
    inherited = {f.name for base in kind.__mro__[1:] if is_dataclass(base) for f in fields(base)}
    for name in inherited & set(vars(kind)) - set(own):
        raise TypeError(f"{kind.__name__}.{name} has no type; wanted {name}: type = default.")
    _check_defaults(kind)
    # Neither `__eq__` nor `__repr__`: scikit-learn's estimators have their own ways.
    dataclass(kw_only=True, eq=False, repr=False)(kind)
    init: Any = vars(kind)["__init__"]
    given = dict(inspect.signature(init).parameters)
    # Those of the class itself first, as its docstring has them.
    bases = (base for base in kind.__mro__ if is_dataclass(base))
    listed = (name for base in bases for name in inspect.get_annotations(base))
    order = dict.fromkeys(name for name in ("self", *listed) if name in given)
    init.__signature__ = inspect.Signature([given[name] for name in order])
    return kind


def _check_defaults(kind: type) -> None:
    for name, annotation in inspect.get_annotations(kind).items():
        default = getattr(kind, name, MISSING)
        if "ClassVar" in str(annotation) or isinstance(default, Field):
            continue
        if default is MISSING:
            raise TypeError(
                f"{kind.__name__}.{name} has no default; wanted one, or field(init=False) where "
                f"fit sets it."
            )
        if hasattr(default, "get_params"):
            raise TypeError(
                f"{kind.__name__}.{name} is {default!r}, which all would share; wanted None, and "
                f"the default made in fit."
            )
