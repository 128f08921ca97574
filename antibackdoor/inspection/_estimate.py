"""About how long a fit takes, before it is begun."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from statistics import median

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length, column_or_1d

from antibackdoor.defenses import UndefendedClassifier
from antibackdoor.training import Passes, TrainingEstimator, check_schedule
from antibackdoor.utils import LazyRows, kept_global_states, naming, resolve_layout

# Epochs that are timed; the first one, which makes everything ready, counts for little.
_EPOCHS_TIMED = 3

# Rows of such an epoch: fewer of large images, which take as long.
_MOST_TIMED, _FEWEST_TIMED = 512, 32
_VALUES_TIMED = 2_000_000

# What the time of a step depends on, beside its rows.
_SAME = ("backbone", "augment", "image_shape", "layout", "device", "compile")


def estimate_fit(
    classifier: TrainingEstimator,
    X: ArrayLike | LazyRows,
    y: ArrayLike,
    *,
    known: dict[Hashable, float] | None = None,
) -> float:
    """Estimate the seconds of a fit on this machine, from a few timed steps.

    Steps of each network and batch size of the fit are timed. It does not touch the classifier,
    nor any random state. The parts of a fit that do not train are not included. If a detector
    finds nothing and stops early, the fit takes less.

    Parameters
    ----------
    classifier : object
        A classifier or detector of the package. Set the number of threads as for the fit.
    X : array-like or LazyRows of shape (n_samples, ...)
    y : array-like of shape (n_samples,)
    known : dict, default=None
        Times of steps measured so far. A dict given to several calls is filled in, so that each
        kind of step is timed once. Use one dict for one data set.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If the classifier is not one of the package.
    ValueError
        If a parameter is not valid, as in `fit` those of its detector and cure too, or the data.

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
    classifier._check_before_training()
    with naming("X"):
        rows = X if isinstance(X, LazyRows) else np.asarray(X)
    labels = column_or_1d(y, warn=True)
    with naming("X and y"):
        check_consistent_length(rows, labels)
    if not len(labels) or 0 in rows.shape:
        raise ValueError(f"X has shape {rows.shape}; wanted rows, with values in them.")
    timed = time_passes(expected_passes(classifier, rows), rows, labels, known)
    return sum(number * seconds for number, seconds in timed)


def expected_passes(estimator: TrainingEstimator, X: np.ndarray | LazyRows) -> list[Passes]:
    """Return the passes over X that a fit is expected to make."""
    layout = resolve_layout(X.shape[1:], estimator.image_shape, estimator.layout)
    return estimator._passes(len(X), images=layout is not None)


def time_passes(
    expected: Iterable[Passes],
    X: np.ndarray | LazyRows,
    y: np.ndarray,
    known: dict[Hashable, float] | None = None,
) -> list[tuple[float, float]]:
    """Time a few steps of each kind.

    Parameters
    ----------
    X : numpy.ndarray or LazyRows of shape (n_samples, ...)
    y : numpy.ndarray of shape (n_samples,)
    known : dict, default=None
        Seconds a row by kind of step, for X of this kind: kept from call to call.

    Returns
    -------
    list of tuple of float
        For each of the expected: the number of passes, and the seconds of one over all of X.
    """
    known = {} if known is None else known
    timed = []
    for passes in expected:
        trained = passes.of
        check_schedule(trained.lr_schedule)
        # What the time of a step of these rows depends on.
        backbone = trained.backbone
        named = backbone if isinstance(backbone, str) else id(backbone)
        kind = (named, repr(trained.augment), passes.batch_size, passes.optimizer)
        if kind not in known:
            known[kind] = _seconds_a_row(passes, X, y)
        timed.append((passes.number, known[kind] * len(y)))
    return timed


def _seconds_a_row(passes: Passes, X: np.ndarray | LazyRows, y: np.ndarray) -> float:
    n_values = int(np.prod(X.shape[1:]))
    n_timed = min(_MOST_TIMED, max(_FEWEST_TIMED, _VALUES_TIMED // n_values), len(y))
    # Rows from all over the set, so that they are of more classes than one.
    rows = np.linspace(0, len(y) - 1, n_timed, dtype=int)
    if (y[rows] == y[rows[0]]).all():  # all others are rare
        rows = np.append(rows, np.flatnonzero(y != y[rows[0]])[:1])
    timed = UndefendedClassifier(
        epochs=_EPOCHS_TIMED,
        batch_size=passes.batch_size,
        optimizer=passes.optimizer,
        random_state=0,
        **{name: getattr(passes.of, name) for name in _SAME},
    )
    # A backbone of the user's may draw from them, and the fit that follows too.
    with kept_global_states():
        timed.fit(X[rows], y[rows])
    return median(epoch["seconds"] for epoch in timed.history_) / len(rows)
