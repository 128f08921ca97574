"""Constructors made from the parameters that a class lists."""

from __future__ import annotations

import inspect
from collections.abc import Container, Iterator
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from itertools import chain
from typing import Any, TypeVar, dataclass_transform

from antibackdoor.utils._described import describe

Kind = TypeVar("Kind", bound=type)


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
def parameters(kind: Kind) -> Kind:
    """Give a class a constructor that assigns its parameters, those of its bases included.

    A parameter is an annotated attribute with a default. It stands once, in the class that it
    belongs to; a class below may give it another default. What `fit` sets is marked by
    ``field(init=False)`` where it is annotated.

    It is described there too. In the sections of a docstring a line of names alone, without types,
    stands for what the bases say of them. So do its constraints: to `_parameter_constraints` and
    `_fitted_constraints` of a class those of its bases are added.

    Raises
    ------
    TypeError
        If it has a constructor, if the default of an inherited parameter is changed without a
        type, which would be ignored, if a parameter has no default, or if its default is an
        estimator, which all would share. If a class above has parameters, other defaults or a
        constructor, but no `@parameters`: they would be ignored.

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
    for base in kind.__mro__[1:]:
        _check_base(base)
    for name in _inherited(kind) & set(vars(kind)) - set(inspect.get_annotations(kind)):
        raise TypeError(f"{kind.__name__}.{name} has no type; wanted {name}: type = default.")
    _check_defaults(kind)
    describe(kind)
    # Neither `__eq__` nor `__repr__`: scikit-learn's estimators have their own ways.
    dataclass(kw_only=True, eq=False, repr=False)(kind)
    init: Any = vars(kind)["__init__"]
    given = dict(inspect.signature(init).parameters)
    # Those of the class itself first, as its docstring has them.
    types = [_types(base) for base in kind.__mro__ if is_dataclass(base)]
    order = dict.fromkeys(name for name in ("self", *chain(*types)) if name in given)
    init.__signature__ = inspect.Signature([given[name] for name in order])
    _add_constraints(kind, "_parameter_constraints", given)
    _add_constraints(kind, "_fitted_constraints")
    # For `typing.get_type_hints`, which looks names up in the module of the class alone.
    init.__annotations__.update(
        (name, type_)
        for of_base in reversed(types)
        for name, type_ in of_base.items()
        if name in given
    )
    return kind


def _add_constraints(kind: type, attribute: str, names: Container[str] | None = None) -> None:
    """Add the constraints that the bases list to those of a class, for some names or for all."""
    listed = [vars(base).get(attribute, {}) for base in reversed(kind.__mro__)]
    merged = {name: wanted for of_base in listed for name, wanted in of_base.items()}
    kept = {name: merged[name] for name in merged if names is None or name in names}
    setattr(kind, attribute, kept)


def _inherited(kind: type) -> set[str]:
    return {f.name for base in kind.__mro__[1:] if is_dataclass(base) for f in fields(base)}


def _types(kind: type) -> dict[str, Any]:
    """Return the types that a class lists itself, as text where one cannot be evaluated."""
    try:
        return inspect.get_annotations(kind, eval_str=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return inspect.get_annotations(kind)


def _check_base(base: type) -> None:
    """Refuse a class without `@parameters` whose parameters or defaults would be ignored."""
    if "__dataclass_fields__" in vars(base):
        return
    listed = {name for name, _ in _defaults(base) if name in vars(base)}
    ignored = listed | (_inherited(base) & set(vars(base)))
    if is_dataclass(base):
        ignored |= {"__init__"} & set(vars(base))
    if ignored:
        raise TypeError(
            f"{base.__name__} has no @parameters, and its {min(ignored)} would be ignored; wanted "
            f"@parameters on it too."
        )


def _defaults(kind: type) -> Iterator[tuple[str, Any]]:
    """Give the names that a class lists as parameters, and the default of each."""
    for name, annotation in inspect.get_annotations(kind).items():
        default = getattr(kind, name, MISSING)
        if "ClassVar" not in str(annotation) and not isinstance(default, Field):
            yield name, default


def _check_defaults(kind: type) -> None:
    for name, default in _defaults(kind):
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
