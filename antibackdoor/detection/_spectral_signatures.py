"""Spectral Signatures: poison shows in the main direction of the features of its class."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from antibackdoor.detection._features import FeatureDetector
from antibackdoor.detection._select import Isolation, flag_above
from antibackdoor.training import Run
from antibackdoor.utils import parameters

# The paper removes 1.5 times the poison there may be.
_MARGIN = 1.5


@parameters
class SpectralSignatures(FeatureDetector):
    """Spectral Signatures: flags a share of each class, the outliers of its features.

    Call `fit` with all the data there is; no classifier is trained::

        detector = SpectralSignatures(expected_poison_rate=0.1).fit(X, y)
        detector.isolate_  # suspect rows, most suspect first
        X_kept, y_kept = detector.fit_resample(X, y)

    Suppose a part of a class is poison and the network distinguishes it. Then the mean features
    of the two parts differ, and the main direction of the centred features points from one to
    the other. A row is the more suspect, the farther it lies along this direction, either way.
    A share of every class is flagged, which the user chooses.

    The paper then trains a new network on the other rows:
    ``ABLClassifier(detector=SpectralSignatures(), cure=Retrain())``.

    It is a classic baseline with known limits. It does not test whether there is poison: in clean
    data it flags as many rows. It fails if poison is half of its class, as ten per cent of ten
    balanced classes are: both halves then lie equally far from the mean.

    Parameters
    ----------
    expected_poison_rate : float, default=0.1
        Upper bound of the poisoned share of a class (of a class, not of the data), up to 0.5: the
        paper's epsilon. 1.5 times this share of every class is flagged. A defender seldom knows
        it; 0.1 is the higher of the two shares that the paper tries.
    epochs : int, default=60
        Passes over all rows, for the network whose features are used.
    backbone, batch_size, learning_rate
    lr_schedule : {"onecycle", "cosine", "constant"} or array-like of int, \
            default="onecycle"
        How the rate changes over the epochs of training. Integers are the epochs
        from which it is divided by ten once more.
    momentum, weight_decay, augment, image_shape, layout, device, compile, cache_dir, random_state

    Attributes
    ----------
    classes_, isolate_, isolate_mask_
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Squared projection of a row's centred features on the main direction of its class. It is
        divided by the largest one of the class that is not flagged, so that all classes have one
        scale.
    isolate_threshold_ : float
        1: rows with a score above it are flagged.
    isolate_classes_ : numpy.ndarray of shape (n_suspect_classes,)
        Labels of the flagged rows: all but small classes.
    history_, n_features_in_, input_shape_

    See Also
    --------
    ActivationClustering : Divides the features of each class into two clusters.
    PoisonSearch : Tests whether there is poison, and finds how many rows to flag.

    References
    ----------
    Tran, Li & Madry, Spectral Signatures in Backdoor Attacks, NeurIPS 2018.

    Examples
    --------
    >>> from antibackdoor import SpectralSignatures, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, _ = make_poisoned(X, y, attack="badnets", poison_rate=0.02, random_state=0)
    >>> detector = SpectralSignatures(epochs=5, random_state=0)
    >>> detector = detector.fit(X_bad, y_bad)
    >>> bool(0.14 < detector.isolate_mask_.mean() <= 0.15)
    True
    """

    expected_poison_rate: float = 0.1

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "expected_poison_rate": [Interval(Real, 0, 0.5, closed="right")],
    }

    def _flag(
        self, run: Run, features: np.ndarray, labels: np.ndarray
    ) -> tuple[Isolation, dict[str, np.ndarray]]:
        scores = np.empty(len(labels))
        for label in range(len(run.classes)):
            rows = np.flatnonzero(labels == label)
            projections = squared_projections(features[rows])
            scores[rows] = over_cut(projections, n_removed(len(rows), self.expected_poison_rate))
        return flag_above(scores, 1.0), {}


def squared_projections(features: np.ndarray) -> np.ndarray:
    """Return the outlier scores of the rows of a class.

    tau_i = ((R(x_i) - mean R) . v)^2, with v the top right singular vector of the matrix
    whose rows are R(x_i) - mean R (Algorithm 1 of the paper).

    Parameters
    ----------
    features : numpy.ndarray of shape (n_rows, n_features)
        R(x_i).

    Returns
    -------
    numpy.ndarray of shape (n_rows,), float64
    """
    centred = features - features.mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return (centred @ directions[0]) ** 2


def n_removed(n_rows: int, rate: float) -> int:
    """Return how many rows of a class are flagged: 1.5 times the poison there may be.

    Rounded down, so that at least a quarter of a class stays, and at least one row.
    """
    # In floating point 1.5 * 0.3 * 20 is a little less than 9.
    return int(_MARGIN * rate * n_rows + 1e-9)


def over_cut(scores: np.ndarray, n_flagged: int) -> np.ndarray:
    """Divide scores by the largest one that is not flagged: above 1 is flagged.

    Parameters
    ----------
    scores : numpy.ndarray of shape (n_rows,)
        Not negative.
    n_flagged : int
        Fewer than the rows. Rows that tie with the first unflagged one are not flagged.

    Returns
    -------
    numpy.ndarray of shape (n_rows,), float64
    """
    last = len(scores) - n_flagged - 1
    cut = np.partition(scores, last)[last]
    # Dividing by 0, or by rounding errors around it, would make the others infinite.
    smallest = scores.max() * np.finfo(np.float64).eps
    return scores / (max(cut, smallest) or 1.0)
