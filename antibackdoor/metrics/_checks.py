"""Checks of labels and masks for the metrics."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from antibackdoor.utils import as_labels, naming
from antibackdoor.utils._labels import check_comparable, shorten


def check_label_pair(
    y_true: ArrayLike, y_pred: ArrayLike, name: str = "y_true"
) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted labels as arrays of one length and one kind.

    `name` is the caller's name of `y_true`, for messages.
    """
    true, predicted = as_labels(name, y_true), as_labels("y_pred", y_pred)
    if len(true) != len(predicted):
        raise ValueError(f"{name} has {len(true)} labels, but y_pred has {len(predicted)}.")
    if len(true) == 0:
        raise ValueError(f"{name} and y_pred are empty.")
    check_comparable("y_pred", predicted, name, true)
    return true, predicted


def check_target(
    target_label: Any, y_true: np.ndarray, y_pred: np.ndarray, classes: ArrayLike | None = None
) -> np.ndarray:
    """Return the attacker's label of every row.

    A label that is not a class is refused: no prediction could equal it, and the ASR would be 0 for
    any model.
    """
    is_one = np.ndim(target_label) == 0
    with naming("target_label"):
        given = np.asarray(target_label).reshape(1) if is_one else target_label
    target = as_labels("target_label", given)
    if not is_one and target.shape != y_true.shape:
        raise ValueError(
            f"target_label has shape {target.shape}; wanted one label, or one for each of the "
            f"{len(y_true)} rows."
        )
    check_comparable("target_label", target, "y_true", y_true)
    known = {*y_true.tolist(), *y_pred.tolist()}
    if classes is not None:
        more = as_labels("classes", classes)
        check_comparable("classes", more, "y_true", y_true)
        known.update(more.tolist())
    unknown = [label for label in dict.fromkeys(target.tolist()) if label not in known]
    if unknown:
        shown = f"={unknown[0]!r}" if is_one else f" holds {unknown[0]!r}, which"
        raise ValueError(
            f"target_label{shown} is no class: it is not among the {len(known)} labels in y_true, "
            f"y_pred and classes. If there is such a class, and no row of it, name it in classes."
        )
    return np.broadcast_to(target, y_true.shape)


def check_known(argument: str, labels: np.ndarray, classes: ArrayLike) -> None:
    """Refuse labels if the estimator can give none of them, since it has other classes."""
    known = as_labels("estimator.classes_", classes)
    check_comparable(argument, labels, "estimator.classes_", known)
    if not set(labels.tolist()) & set(known.tolist()):
        raise ValueError(
            f"{argument} holds {labels.ravel()[:1].tolist()[0]!r} and no other label that the "
            f"estimator can give; its classes_ are {shorten(known.tolist())}."
        )


def check_at_least_zero(name: str, value: Any) -> float:
    """Return a number that is at least 0 as a float."""
    message = f"{name}={value!r}; wanted a number that is at least 0."
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and value >= 0):
        raise ValueError(message)
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(message) from error
