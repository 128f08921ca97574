"""A failed fit leaves its estimator unchanged."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from antibackdoor.utils._numbers import plain_parameters


def all_or_nothing(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate `fit` so that any exception restores the estimator's attributes.

    An OverflowError becomes a ValueError. During the fit all numeric parameters are plain Python
    numbers. Put it outside of scikit-learn's ``with_callbacks``, which keeps state on the
    estimator until the callbacks are torn down.
    """

    @functools.wraps(method)
    def restoring(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        before = dict(vars(estimator))
        changed = plain_parameters(estimator)
        vars(estimator).update(changed)
        try:
            answer = method(estimator, *args, **kwargs)
        except BaseException as error:
            vars(estimator).clear()
            vars(estimator).update(before)
            if isinstance(error, OverflowError):
                # The ranges of scikit-learn let whole numbers pass that no float can hold.
                raise ValueError(
                    f"{type(estimator).__name__} was given a number that is too large: {error}."
                ) from error
            raise
        vars(estimator).update({name: before[name] for name in changed})
        return answer

    return restoring
