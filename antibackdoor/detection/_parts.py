"""A class in two parts, by what networks see in rows that they did not go on with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.mixture import GaussianMixture

from antibackdoor.detection._cross_fit import CrossFit
from antibackdoor.detection._discriminant import (
    SMALLEST_PART,
    are_two,
    discriminate,
    look_at,
    standardise,
)

#: Of fewer rows than this no class is split: two clouds of so few say nothing.
SMALLEST_CLASS = 20

_ROUNDS = 5


@dataclass(frozen=True)
class Parts:
    """The rows of one class in two parts.

    Attributes
    ----------
    label : int
    rows : numpy.ndarray of shape (n_rows,), int64
        All rows of the class.
    probabilities : numpy.ndarray of shape (n_rows,), float64
        That a row is of the first part.
    """

    label: int
    rows: np.ndarray
    probabilities: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """Rows of the first part."""
        return self.rows[self.probabilities > 0.5]

    @property
    def second(self) -> np.ndarray:
        """The other rows."""
        return self.rows[self.probabilities <= 0.5]


def split_classes(fitted: CrossFit, labels: np.ndarray, seed: int) -> list[Parts]:
    """Split the rows of each class in two by their features.

    A network that has learned a backdoor knows the rows of the target class by two different
    signs, the class and the trigger: the features of rows it has not seen are two clouds. A
    mixture of two Gaussians on the principal components finds them roughly, and a linear
    discriminant (`discriminate`) sharpens it in rounds: directions of small variance, which the
    components leave out, tell the trigger too.

    Parameters
    ----------
    fitted : CrossFit
    labels : numpy.ndarray of shape (n_samples,), int
    seed : int

    Returns
    -------
    list of Parts
        Of the classes that can be split: neither tiny nor all of a kind.
    """
    split = (
        _split_class(fitted, np.flatnonzero(labels == label), int(label), seed)
        for label in np.unique(labels)
    )
    return [parts for parts in split if parts is not None]


def _split_class(fitted: CrossFit, rows: np.ndarray, label: int, seed: int) -> Parts | None:
    if len(rows) < SMALLEST_CLASS:
        return None
    views = look_at(fitted, rows)
    if any(view.values.shape[1] == 0 for view in views):
        return None
    first = np.zeros(len(rows), dtype=bool)
    for number, view in enumerate(views):
        seen = standardise(fitted.features[number][rows[view.unseen]])
        first[view.unseen] = _mixture(seen, seed)
    if not _agree(fitted, rows, first):
        first[views[0].unseen] = ~first[views[0].unseen]
    told = discriminate(views, first, _ROUNDS)
    if told is None and all(are_two(first[view.unseen]) for view in views):
        # No line keeps the two apart. There are rows of either all the same, to ask about.
        told = first.astype(np.float64)
    return None if told is None else Parts(label, rows, told)


def _mixture(values: np.ndarray, seed: int) -> np.ndarray:
    """Return which rows are of the first of two Gaussians, shape (n_rows,), bool."""
    # Twenty rows a component: the covariances are full.
    n_components = max(1, min(10, len(values) // 20, values.shape[1]))
    components = PCA(n_components, random_state=seed).fit_transform(values)
    mixture = GaussianMixture(2, n_init=5, reg_covar=1e-3, random_state=seed).fit(components)
    return mixture.predict(components) == 0


def _agree(fitted: CrossFit, rows: np.ndarray, first: np.ndarray) -> bool:
    """Tell whether the parts of the two halves are the same two, not one another's.

    Each half was split by itself. A discriminant of one, asked about the other, says which of
    its parts is which.
    """
    agreement = 0.0
    for number in (0, 1):
        unseen = fitted.half[rows] != number
        values = fitted.features[number][rows].astype(np.float64)
        parts = first[unseen]
        # Of a part of one row no covariance can be told.
        if min(parts.sum(), (~parts).sum()) < SMALLEST_PART:
            continue
        discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        told = discriminant.fit(values[unseen], parts).predict_proba(values[~unseen])[:, 1]
        # Covariance of the answer and the parts that the other half was split in.
        agreement += float(np.mean((told - told.mean()) * (first[~unseen] - first[~unseen].mean())))
    return agreement >= 0
