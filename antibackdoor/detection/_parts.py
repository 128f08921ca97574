"""A class in two parts, by what a backdoored network sees in its rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from joblib import parallel_config
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_predict

#: Of fewer rows than this no class is split: two clouds of so few say nothing.
SMALLEST_CLASS = 20

# Each part has at least this many rows, and this share of those of the class.
_SMALLEST_PART = 5
_SMALLEST_SHARE = 0.01

_FOLDS = 5
_ROUNDS = 5


@dataclass(frozen=True)
class Parts:
    """The rows of one class in two parts; the first is the one with the lower losses.

    Attributes
    ----------
    label : int
    rows : numpy.ndarray of shape (n_rows,), int64
        All rows of the class.
    probabilities : numpy.ndarray of shape (n_rows,), float64
        That a row is of the first part.
    overlap : float
        Mean entropy of these probabilities, in nats: 0 where the parts are two clouds
        with a gap between them, up to log 2 where they are two halves of one cloud.
    contrast : float
        Share of the pairs of a row of the first and a row of the second part of which the
        former has the lower loss: 0.5 to 1.
    """

    label: int
    rows: np.ndarray
    probabilities: np.ndarray
    overlap: float
    contrast: float

    @property
    def first(self) -> np.ndarray:
        """Rows of the part with the lower losses."""
        return self.rows[self.probabilities > 0.5]

    @property
    def second(self) -> np.ndarray:
        """The other rows."""
        return self.rows[self.probabilities <= 0.5]


def split_classes(
    features: np.ndarray, scores: np.ndarray, labels: np.ndarray, seed: int
) -> list[Parts]:
    """Split the rows of each class in two by their features.

    A network that has taken a backdoor in knows the rows of the target class by two
    different signs, the class and the trigger: their features are two clouds. A mixture
    of two Gaussians on the principal components finds them roughly, and a linear
    discriminant, fitted to that answer on four fifths of the rows and asked about the
    fifth, in rounds, sharpens it: directions of small variance, which the components leave
    out, tell the trigger too.

    Parameters
    ----------
    features : numpy.ndarray of shape (n_samples, n_features)
        Of the backdoored network.
    scores : numpy.ndarray of shape (n_samples,)
        Suspicion from its losses: higher where they are lower.
    labels : numpy.ndarray of shape (n_samples,), int
    seed : int

    Returns
    -------
    list of Parts
        Of the classes that can be split: neither tiny nor all of a kind.
    """
    split = (
        _split_class(features, scores, np.flatnonzero(labels == label), int(label), seed)
        for label in np.unique(labels)
    )
    return [parts for parts in split if parts is not None]


def _split_class(
    features: np.ndarray, scores: np.ndarray, rows: np.ndarray, label: int, seed: int
) -> Parts | None:
    if len(rows) < SMALLEST_CLASS:
        return None
    values = features[rows].astype(np.float64)
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    if values.shape[1] == 0:
        return None
    probabilities = _sharpen(values, _mixture(values, seed))
    if probabilities is None:
        return None
    first = probabilities > 0.5
    contrast = float(roc_auc_score(first, scores[rows]))
    if contrast < 0.5:
        probabilities, contrast = 1 - probabilities, 1 - contrast
    overlap = float(_entropy(probabilities).mean())
    return Parts(label, rows, probabilities, overlap, contrast)


def _mixture(values: np.ndarray, seed: int) -> np.ndarray:
    """Return which rows are of the first of two Gaussians, shape (n_rows,), bool."""
    # Twenty rows a component: the covariances are full.
    n_components = min(10, len(values) // 20, values.shape[1])
    components = PCA(n_components, random_state=seed).fit_transform(values)
    mixture = GaussianMixture(2, n_init=5, reg_covar=1e-3, random_state=seed).fit(components)
    return mixture.predict(components) == 0


def _sharpen(values: np.ndarray, first: np.ndarray) -> np.ndarray | None:
    """Return the probability of the first part, (n_rows,); None where one part vanishes."""
    discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    smallest = max(_SMALLEST_PART, _SMALLEST_SHARE * len(first))
    probabilities = first.astype(np.float64)
    for _ in range(_ROUNDS):
        if min(first.sum(), (~first).sum()) < smallest:
            return None
        # On a Dask cluster these folds would be sent out, and meanwhile another fit would begin
        # in this process, where the two would draw from the same generators of torch.
        with parallel_config(backend="sequential"):
            probabilities = cross_val_predict(
                discriminant, values, first, cv=_FOLDS, method="predict_proba"
            )[:, 1]
        first, before = probabilities > 0.5, first
        if (first == before).all():
            break
    return probabilities if min(first.sum(), (~first).sum()) >= smallest else None


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    sides = np.clip(np.stack([probabilities, 1 - probabilities]), 1e-12, 1)
    return -(sides * np.log(sides)).sum(axis=0)
