"""Checks and conversion of numbers, the same for all parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import (
    InvalidParameterError,
    make_constraint,
    validate_parameter_constraints,
)

from antibackdoor.utils._sklearn import BaseEstimator


def is_number(value: Any, kind: type = Real) -> bool:
    """Return whether a value is a number; numpy's are, True and False are not."""
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)


def check_number(name: str, value: Any, wanted: str, kind: type = Real) -> None:
    """Refuse a value that is not a number of this kind.

    Parameters
    ----------
    name : str
        Of the argument.
    value : object
    wanted : str
        What it should be, for the message.
    kind : {numbers.Real, numbers.Integral}, default=numbers.Real

    Raises
    ------
    InvalidParameterError
        A ValueError and a TypeError, as scikit-learn raises for the parameters of a class.
    """
    if not is_number(value, kind):
        raise InvalidParameterError(f"{name}={value!r}; {wanted}.")


def check_count(
    name: str, value: Any, wanted: str = "wanted a whole number that is at least 1"
) -> int:
    """Return a whole number that is at least 1.

    Raises
    ------
    InvalidParameterError
        A ValueError and a TypeError, if it is no whole number.
    ValueError
        If it is less than 1.

    Examples
    --------
    >>> from antibackdoor.utils import check_count
    >>> check_count("n_images", 3)
    3
    """
    check_number(name, value, wanted, Integral)
    if value < 1:
        raise ValueError(f"{name}={value!r}; {wanted}.")
    return int(value)


def plain(value: Any) -> Any:
    """Convert numbers of any kind to plain Python numbers; return other values unchanged.

    Small numpy numbers overflow (``numpy.uint8(16) * 16`` is 0), and JSON does not take them.
    Numbers in a list, a tuple or a dict are converted too.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.utils import plain
    >>> plain((np.uint8(16), "a"))
    (16, 'a')
    """
    if type(value) in (bool, int, float):  # numpy.float64 is a float too, of another repr
        return value
    if isinstance(value, np.bool_ | np.str_):
        return value.item()
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if type(value) in (list, tuple):
        parts = [plain(part) for part in value]
        changed = any(new is not old for new, old in zip(parts, value, strict=True))
        return type(value)(parts) if changed else value
    if type(value) is dict:
        return {key: plain(part) for key, part in value.items()}
    return value


def plain_parameters(estimator: Any) -> dict[str, Any]:
    """Return the parameters of an estimator that `plain` changes, changed."""
    parameters = estimator.get_params(deep=False)
    changed = {name: plain(value) for name, value in parameters.items()}
    return {name: value for name, value in changed.items() if value is not parameters[name]}


def with_plain_parameters(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a method that does not change its object, so that its parameters are plain numbers.

    If a parameter is not a plain number, the method is called on a copy with plain parameters.
    """

    @functools.wraps(method)
    def on_plain(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        changed = plain_parameters(estimator)
        if not changed:
            return method(estimator, *args, **kwargs)
        twin = object.__new__(type(estimator))
        vars(twin).update({**vars(estimator), **changed})
        return method(twin, *args, **kwargs)

    return on_plain


class CheckedParameters(BaseEstimator):
    """Base of the classes with checked parameters, which refuse a bool as a number.

    In Python True is 1, and scikit-learn's `Interval` accepts it. Parameters that take a bool
    have ``"boolean"`` or `bool` in their constraints.

    Examples
    --------
    >>> from numbers import Integral
    >>> from sklearn.utils._param_validation import Interval
    >>> from antibackdoor.utils import CheckedParameters
    >>> class Counter(CheckedParameters):
    ...     _parameter_constraints = {"n": [Interval(Integral, 0, None, closed="left")]}
    ...
    ...     def __init__(self, n):
    ...         self.n = n
    >>> Counter(3)._validate_params()
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    def _validate_params(self) -> None:
        parameters = self.get_params(deep=False)
        for name, value in parameters.items():
            constraints = self._parameter_constraints.get(name)
            if constraints is not None and isinstance(value, bool | np.bool_):
                _check_takes_bool(type(self).__name__, name, value, constraints)
        validate_parameter_constraints(
            self._parameter_constraints,
            {name: plain(value) for name, value in parameters.items()},
            caller_name=type(self).__name__,
        )


def _check_takes_bool(kind: str, name: str, value: Any, constraints: Any) -> None:
    if any(isinstance(wanted, str) and wanted == "boolean" for wanted in constraints):
        return
    if bool in constraints or np.bool_ in constraints:
        return
    wanted = " or ".join(str(make_constraint(constraint)) for constraint in constraints)
    raise InvalidParameterError(
        f"{name}={value!r} of {kind}: True and False are no numbers; wanted {wanted}."
    )
