"""A fit that fails leaves its estimator as it was."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def all_or_nothing(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate `fit` so that any exception restores the estimator's attributes.

    It must be the decorator outside scikit-learn's ``with_callbacks``, which
    keeps state of its own on the estimator until the callbacks are torn down.
    """

    @functools.wraps(method)
    def restoring(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        before = dict(vars(estimator))
        try:
            return method(estimator, *args, **kwargs)
        except BaseException:
            vars(estimator).clear()
            vars(estimator).update(before)
            raise

    return restoring
