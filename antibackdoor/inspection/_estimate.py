"""About how long a fit takes, before it is begun."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length, column_or_1d

from antibackdoor.defenses import UndefendedClassifier
from antibackdoor.training import TrainingEstimator, resolve_batch_size
from antibackdoor.utils import LazyRows, naming

# Epochs that are timed; the first one, which makes everything ready, counts for little.
_EPOCHS_TIMED = 3

# Rows of such an epoch: fewer of large images, which take as long.
_MOST_TIMED, _FEWEST_TIMED = 512, 32
_VALUES_TIMED = 2_000_000

# What the time of a step depends on.
_SAME = ("backbone", "augment", "image_shape", "layout", "device", "compile")


def estimate_fit(classifier: TrainingEstimator, X: ArrayLike | LazyRows, y: ArrayLike) -> float:
    """Estimate the seconds of a fit on this machine, from a few timed steps.

    It does not touch the classifier, nor any random state. The parts of a fit that do not train
    are not included. If a detector finds nothing and stops early, the fit takes less.

    Parameters
    ----------
    classifier : object
        A classifier or detector of the package. Set the number of threads as for the fit.
    X : array-like or LazyRows of shape (n_samples, ...)
    y : array-like of shape (n_samples,)

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If the classifier is not one of the package.
    ValueError
        If a parameter or the data is not valid.

    See Also
    --------
    FitProgress : Estimates at the beginning of a fit, and shows how far it is.

    Examples
    --------
    >>> from antibackdoor import UndefendedClassifier
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.inspection import estimate_fit
    >>> X, y = load_digits_images()
    >>> estimate_fit(UndefendedClassifier(epochs=2), X[:300], y[:300]) > 0
    True
    """
    if not isinstance(classifier, TrainingEstimator):
        raise TypeError(
            f"classifier={classifier!r}; wanted a classifier or detector of antibackdoor, such as "
            f"ABLClassifier()."
        )
    classifier._validate_params()
    with naming("X"):
        rows = X if isinstance(X, LazyRows) else np.asarray(X)
    labels = column_or_1d(y, warn=True)
    with naming("X and y"):
        check_consistent_length(rows, labels)
    if not len(labels) or 0 in rows.shape:
        raise ValueError(f"X has shape {rows.shape}; wanted rows, with values in them.")
    images = rows.ndim > 2 or classifier.image_shape is not None
    return seconds_a_pass(classifier, rows, labels) * classifier._n_passes(images=images)


def seconds_a_pass(estimator: Any, X: np.ndarray | LazyRows, y: np.ndarray) -> float:
    """Return the seconds of a training pass over all rows, from some of them."""
    n_values = int(np.prod(X.shape[1:]))
    n_timed = min(_MOST_TIMED, max(_FEWEST_TIMED, _VALUES_TIMED // n_values), len(y))
    # Rows from all over the set, so that they are of more classes than one.
    rows = np.linspace(0, len(y) - 1, n_timed, dtype=int)
    if (y[rows] == y[rows[0]]).all():  # all others are rare
        rows = np.append(rows, np.flatnonzero(y != y[rows[0]])[:1])
    timed = UndefendedClassifier(
        epochs=_EPOCHS_TIMED,
        random_state=0,
        # Of all rows: "auto" would choose smaller batches of fewer.
        batch_size=resolve_batch_size(estimator.batch_size, len(y)),
        # Detectors have none.
        optimizer=getattr(estimator, "optimizer", "sgd"),
        **{name: getattr(estimator, name) for name in _SAME},
    )
    timed.fit(X[rows], y[rows])
    return median(epoch["seconds"] for epoch in timed.history_) / len(rows) * len(y)
