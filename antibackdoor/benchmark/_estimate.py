"""About how long a table or a fit takes, before it is begun."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from antibackdoor.benchmark._cells import Cell
from antibackdoor.benchmark._defenses import count_epochs, make_defense
from antibackdoor.benchmark._run import limited_threads, load_data
from antibackdoor.benchmark._variants import parse_params
from antibackdoor.defenses import UndefendedClassifier
from antibackdoor.utils import LazyRows

# Epochs that are timed; the first one, which makes everything ready, counts for little.
_EPOCHS_TIMED = 3

# Rows of such an epoch: fewer of large images, which take as long.
_MOST_TIMED, _FEWEST_TIMED = 512, 32
_VALUES_TIMED = 2_000_000


def estimate_seconds(
    cells: Sequence[Cell],
    *,
    data_root: str = "data",
    device: str = "auto",
    threads: int | None = 1,
) -> list[float]:
    """Estimate the seconds of training of each cell on this machine.

    An epoch of each backbone is timed on some rows of its data set, and multiplied by the rows
    and the epochs of the defence. Not included: attacks that train, prediction, and other work of
    a defence. If a defence stops early, it takes less.

    Parameters
    ----------
    cells : sequence of Cell
    data_root : str, default="data"
    device : str, default="auto"
    threads : int, default=1

    Returns
    -------
    list of float

    Examples
    --------
    >>> from antibackdoor.benchmark import Cell, estimate_seconds
    >>> cell = Cell("digits", "badnets", 0.1, "undefended", n_train=200, schedule=0.1)
    >>> (seconds,) = estimate_seconds([cell])
    >>> seconds > 0
    True
    """
    per_row: dict[tuple[str, str], float] = {}
    seconds = []
    with limited_threads(threads):
        for cell in cells:
            data = load_data(cell, data_root=data_root)
            timed = (cell.dataset, cell.backbone)
            if timed not in per_row:
                per_row[timed] = _time_a_row(
                    data.X_train, data.y_train, backbone=cell.backbone, device=device
                )
            classifier = make_defense(
                cell.defense,
                backbone=cell.backbone,
                seed=cell.seed,
                schedule=cell.schedule,
                settings=parse_params(cell.settings),
                device=device,
            )
            seconds.append(per_row[timed] * len(data.y_train) * count_epochs(classifier))
    return seconds


def estimate_fit(classifier: Any, X: np.ndarray | LazyRows, y: np.ndarray) -> float:
    """Estimate the seconds of a fit on this machine, from a few timed steps.

    Parameters
    ----------
    classifier : object
        A classifier or detector of the package. Set the number of threads as for the fit.
    X : numpy.ndarray or LazyRows of shape (n_samples, ...)
    y : numpy.ndarray of shape (n_samples,)

    Returns
    -------
    float

    Examples
    --------
    >>> from antibackdoor import UndefendedClassifier
    >>> from antibackdoor.benchmark import estimate_fit
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> estimate_fit(UndefendedClassifier(epochs=2), X[:300], y[:300]) > 0
    True
    """
    same = {name: getattr(classifier, name) for name in ("backbone", "device", "layout")}
    return _time_a_row(X, y, **same) * len(y) * count_epochs(classifier)


def _time_a_row(X: np.ndarray | LazyRows, y: np.ndarray, **settings: Any) -> float:
    n_values = int(np.prod(X.shape[1:]))
    n_timed = min(_MOST_TIMED, max(_FEWEST_TIMED, _VALUES_TIMED // n_values), len(y))
    # Rows from all over the set, so that they are of more classes than one.
    rows = np.linspace(0, len(y) - 1, n_timed, dtype=int)
    if (y[rows] == y[rows[0]]).all():  # all others are rare
        rows = np.append(rows, np.flatnonzero(y != y[rows[0]])[:1])
    classifier = UndefendedClassifier(epochs=_EPOCHS_TIMED, random_state=0, **settings)
    classifier.fit(X[rows], y[rows])
    return median(epoch["seconds"] for epoch in classifier.history_) / len(rows)
