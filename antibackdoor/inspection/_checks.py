"""Checks of a classifier and of the rows it was fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from antibackdoor.utils import LazyRows, as_labels, as_rows, naming

_FAMILY = (
    "isolate_",
    "isolate_classes_",
    "isolate_mask_",
    "isolate_scores_",
    "isolate_threshold_",
)


def check_isolates(classifier: Any, name: str = "classifier") -> None:
    """Check that a classifier is fitted and has the `isolate_` attributes.

    Parameters
    ----------
    name : str, default="classifier"
        Name of the argument, for messages.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    TypeError
        If it is not an estimator, or one that lists no suspects.
    """
    try:
        check_is_fitted(classifier)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error
    missing = [attribute for attribute in _FAMILY if not hasattr(classifier, attribute)]
    if missing:
        kind = type(classifier).__name__
        raise TypeError(
            f"{name} is a {kind}, which has no {missing[0]}; wanted a defence of this package, "
            f"such as ABLClassifier. Of a pipeline give the last step: pipeline[-1]."
        )


def check_training_rows(
    classifier: Any, X: Any, y: Any
) -> tuple[np.ndarray | LazyRows, np.ndarray]:
    """Return the rows and labels that a classifier was fitted on, as arrays unless X is lazy.

    The values are not read: X may be mapped from a file of any size.

    Parameters
    ----------
    classifier : object
        As `check_isolates` accepts it.
    X : array-like of shape (n_samples, ...)
    y : array-like of shape (n_samples,)

    Returns
    -------
    X : numpy.ndarray of shape (n_samples, ...) or LazyRows
    y : numpy.ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If their shapes or labels are not those of the fit.
    TypeError
        If X is sparse.
    """
    n_samples = len(classifier.isolate_mask_)
    if not isinstance(X, LazyRows):
        with naming("X"):
            X = check_array(as_rows(X), dtype="numeric", allow_nd=True, ensure_all_finite=False)
    with naming("y"):
        y = as_labels("y", y)
    for name, given in (("X", X), ("y", y)):
        if len(given) != n_samples:
            raise ValueError(
                f"{name} has {len(given)} rows, but the classifier was fitted on {n_samples}; "
                f"give the training data itself."
            )
    if X.shape[1:] != tuple(classifier.input_shape_):
        raise ValueError(
            f"X has rows of shape {X.shape[1:]}, but the classifier was fitted on rows of shape "
            f"{tuple(classifier.input_shape_)}."
        )
    flagged = np.unique(y[classifier.isolate_mask_])
    if not np.array_equal(flagged, np.asarray(classifier.isolate_classes_)):
        raise ValueError(
            f"y gives the flagged rows the labels {flagged.tolist()}, but they had "
            f"{np.asarray(classifier.isolate_classes_).tolist()} in fit; give the labels of the "
            f"training data unchanged, in the same order."
        )
    return X, y
