"""What a number is, the same for every parameter of every class and function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import (
    InvalidParameterError,
    make_constraint,
    validate_parameter_constraints,
)


def is_number(value: Any, kind: type = Real) -> bool:
    """Tell whether a value is a number: numpy's are, True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)


def check_number(name: str, value: Any, wanted: str, kind: type = Real) -> None:
    """Refuse what is no number of a kind.

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


def plain(value: Any) -> Any:
    """Return Python's own number for a number of any other kind, and all else as it is.

    Numpy's wrap where they are small (``numpy.uint8(16) * 16`` is 0), and are no JSON. What is
    in a list, a tuple or a dict is made plain too.
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
    """Decorate a method, one that changes nothing, to work with plain numbers.

    Where a parameter is no plain number, it is called on a twin that differs in that alone.
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
    """Beside scikit-learn's check of the parameters: a bool is no number.

    To Python True is 1, and scikit-learn's `Interval` lets it pass. Where a bool is wanted, the
    constraints of the parameter hold ``"boolean"`` or `bool`.
    """

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
