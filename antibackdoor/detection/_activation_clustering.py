"""Activation Clustering: poison forms a cluster of its own in the features of its class."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from sklearn.utils._param_validation import Interval, StrOptions

from antibackdoor.detection._features import FeatureDetector
from antibackdoor.detection._select import Isolation, flag_above
from antibackdoor.training import Run
from antibackdoor.utils import parameters

# Classes with fewer rows are not split: in ten components so few rows form no clusters.
_SMALLEST_CLASS = 20

# A row with this nearness is equally far from both cluster centres.
_HALFWAY = 0.5


@parameters
class ActivationClustering(FeatureDetector):
    """Activation Clustering: splits the features of each class in two and flags small clusters.

    Call `fit` with all the data there is; no classifier is trained::

        detector = ActivationClustering().fit(X, y)
        detector.isolate_  # suspect rows, most suspect first
        X_kept, y_kept = detector.fit_resample(X, y)

    A network trained on all rows recognises rows of the target class by two different features:
    the class and the trigger. The features of each class are reduced to a few components, and
    k-means divides them into two clusters. A clean class gives two clusters of about the same
    size. In a poisoned class the poison is the smaller cluster.

    The paper then trains a new network on the other rows:
    ``ABLClassifier(detector=ActivationClustering(), cure=Retrain())``.

    It is a classic baseline with known limits. It misses poison that is half of its class or
    more, as ten per cent of ten balanced classes are. Many clean classes have a small cluster
    too, and are flagged wrongly.

    Parameters
    ----------
    exclusion : {"size", "silhouette"}, default="size"
        When the smaller cluster of a class counts as poison. ``"size"``: its share of the class
        is below `size_threshold`. ``"silhouette"``: the two clusters are well separated, with a
        mean silhouette above `silhouette_threshold`.
    size_threshold : float, default=0.35
        The smaller cluster of a class is flagged if its share is below this, up to 0.5. The
        paper expects nearly equal halves in a clean class, and names no value for all data.
    silhouette_threshold : float, default=0.15
        The smaller cluster of a class is flagged if the mean silhouette, -1 to 1, is above this.
        The paper suggests 0.10 to 0.15. Meant for ``reduction="ica"``: with ``"pca"``, clean
        classes have higher silhouettes.
    reduction : {"ica", "pca"}, default="ica"
        The components that are clustered. ``"ica"``, as in the paper: independent components,
        all of the same variance. ``"pca"``: principal components, not scaled, so that the
        strongest weigh most.
    n_components : int, default=10
        Number of components; fewer if the features have fewer directions.
    epochs : int, default=60
        Passes over all rows, for the network whose features are clustered.
    backbone, batch_size, learning_rate
    lr_schedule : {"onecycle", "cosine", "constant"} or array-like of int, \
            default="onecycle"
        How the rate changes over the epochs of training. Integers are the epochs
        from which it is divided by ten once more.
    momentum, weight_decay, augment, image_shape, layout, device, compile, cache_dir
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, the order of the samples, the augmentation and the clusters.

    Attributes
    ----------
    classes_, isolate_, isolate_mask_
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Nearness to the centre of the smaller cluster of the class, relative to the larger one:
        0 to 1, with 0.5 halfway. It is halved in a class that is not suspect. It is 0 in a class
        of fewer than 20 rows, which is not split.
    isolate_threshold_ : float
        0.5: rows with a score above it are flagged.
    isolate_classes_
    isolate_signs_ : dict of str to numpy.ndarray of shape (n_classes,)
        Evidence of poison in each class of `classes_`, nan for a class that was not split.
        ``"size"``: share of the smaller cluster; low means poison. ``"silhouette"``: mean
        silhouette of the two clusters; high means poison.
    history_, n_features_in_, input_shape_

    See Also
    --------
    SpectralSignatures : Flags outliers along one direction of the features.
    PoisonSearch : Tests the two parts of a class with further networks.

    Notes
    -----
    Independent components are the whitened principal components, rotated. k-means and
    silhouettes do not change under rotation. So ``reduction="ica"`` only whitens: there is no
    rotation to search for, and no convergence to check.

    References
    ----------
    Chen, Carvalho, Baracaldo, Ludwig, Edwards, Lee, Molloy & Srivastava, Detecting
    Backdoor Attacks on Deep Neural Networks by Activation Clustering, SafeAI at AAAI 2019.

    Examples
    --------
    >>> from antibackdoor import ActivationClustering, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, _ = make_poisoned(X, y, attack="badnets", poison_rate=0.03, random_state=0)
    >>> detector = ActivationClustering(
    ...     exclusion="silhouette", epochs=10, random_state=0
    ... )
    >>> detector = detector.fit(X_bad, y_bad)
    >>> detector.isolate_classes_
    array([0])
    """

    exclusion: Literal["size", "silhouette"] = "size"
    size_threshold: float = 0.35
    silhouette_threshold: float = 0.15
    reduction: Literal["ica", "pca"] = "ica"
    n_components: int = 10

    isolate_signs_: dict[str, np.ndarray] = field(init=False)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "exclusion": [StrOptions({"size", "silhouette"})],
        "size_threshold": [Interval(Real, 0, 0.5, closed="right")],
        "silhouette_threshold": [Interval(Real, -1, 1, closed="both")],
        "reduction": [StrOptions({"ica", "pca"})],
        "n_components": [Interval(Integral, 1, None, closed="left")],
    }

    def _flag(
        self, run: Run, features: np.ndarray, labels: np.ndarray
    ) -> tuple[Isolation, dict[str, np.ndarray]]:
        seed = run.draw_seed()
        scores = np.zeros(len(labels))
        signs = {name: np.full(len(run.classes), np.nan) for name in ("size", "silhouette")}
        for label in range(len(run.classes)):
            rows = np.flatnonzero(labels == label)
            points = reduce(features[rows], self.n_components, whiten=self.reduction == "ica")
            if len(rows) < _SMALLEST_CLASS or points.shape[1] == 0:
                continue
            clusters = split_in_two(points, seed)
            signs["size"][label] = clusters.share
            signs["silhouette"][label] = clusters.silhouette
            # Halved scores never exceed the threshold: nothing of the class is flagged.
            scores[rows] = clusters.nearness * (1.0 if self._is_poison(clusters) else 0.5)
        return flag_above(scores, _HALFWAY), signs

    def _is_poison(self, clusters: Clusters) -> bool:
        if self.exclusion == "size":
            return clusters.share < self.size_threshold
        return clusters.silhouette > self.silhouette_threshold


@dataclass(frozen=True)
class Clusters:
    """The rows of one class in two clusters.

    Attributes
    ----------
    nearness : numpy.ndarray of shape (n_rows,), float64
        d / (d + d'), with d the distance to the centre of the larger cluster and d' to
        that of the smaller: above 0.5 for the rows of the smaller.
    share : float
        Share of the rows in the smaller cluster, 0.5 at most.
    silhouette : float
        Mean silhouette of all rows.
    """

    nearness: np.ndarray
    share: float
    silhouette: float


def reduce(features: np.ndarray, n_components: int, *, whiten: bool) -> np.ndarray:
    """Return the strongest principal components of the rows of a class.

    Parameters
    ----------
    features : numpy.ndarray of shape (n_rows, n_features)
    whiten : bool
        Scale each component to variance 1.

    Returns
    -------
    numpy.ndarray of shape (n_rows, n_kept), float64
        Fewer columns than `n_components` if the rows have fewer directions, and none if all rows
        are the same.
    """
    centred = features - features.mean(axis=0, dtype=np.float64)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    # Float32 rounding is not a direction, but whitening would scale it up to one.
    largest = np.abs(features).max(initial=0.0)
    noise = largest * np.sqrt(features.size) * np.finfo(np.float32).eps
    kept = np.flatnonzero(sizes > noise)[:n_components]
    return left[:, kept] * (np.sqrt(len(left)) if whiten else sizes[kept])


def split_in_two(points: np.ndarray, seed: int) -> Clusters:
    """Divide rows by k-means.

    Parameters
    ----------
    points : numpy.ndarray of shape (n_rows, n_components)
        Not all the same.
    seed : int
        Seed of the first centres.
    """
    distances = KMeans(2, n_init=10, random_state=seed).fit(points).transform(points)
    smaller = int((distances[:, 1] < distances[:, 0]).mean() < 0.5)
    nearness = distances[:, 1 - smaller] / distances.sum(axis=1)
    members = nearness > _HALFWAY
    return Clusters(nearness, float(members.mean()), float(silhouette_score(points, members)))
