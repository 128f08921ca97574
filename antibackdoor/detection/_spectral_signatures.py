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
    backbone : str, torch.nn.Module or callable, default="auto"
        Network to train. Names: ``"mlp"``, ``"small-cnn"``, ``"wrn-16-1"`` or any
        ``"wrn-D-K"``, ``"preact-resnet18"``, any classifier of `torchvision.models`, and
        ``"auto"``, which chooses by the shape of `X`. A module is copied, and the copy is
        trained further. A callable takes the shape of a sample, channels first, and the number
        of classes, and returns a module. The last layer of a module must be the
        `torch.nn.Linear` that gives the logits.
    batch_size : int or "auto", default=128
        Samples per training step. ``"auto"``: a 160th of the rows, from 32 to 128.
    learning_rate : float, default=0.1
        Highest rate of the schedule of stochastic gradient descent.
    lr_schedule : {"onecycle", "cosine", "constant"} or array-like of int, \
            default="onecycle"
        How the rate changes over the epochs of training. Integers are the epochs
        from which it is divided by ten once more.
    momentum : float, default=0.9
        Nesterov momentum.
    weight_decay : float, default=5e-4
        Factor of the squared norm of the weights (L2 penalty).
    augment : "auto", None or array-like of {"crop", "flip", "cutout"}, default="auto"
        Random changes of the images during training. ``"auto"``: ``"crop"`` for images of 16
        pixels and more, ``"flip"`` for colour images.
    image_shape : tuple of int, default=None
        Shape of the image in each row of a 2-D `X`: (H, W), (H, W, C) or (C, H, W).
        None: a 2-D `X` is a table.
    layout : {"auto", "channels_first", "channels_last"}, default="auto"
        Position of the channel axis of images. ``"auto"`` infers it from the shape, and raises
        a ValueError where the shape is ambiguous.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA if available, else the CPU.
    compile : {"auto", True, False}, default="auto"
        Whether to train through `torch.compile`. ``"auto"``: on CUDA only. If compiling fails,
        the fit warns once (RuntimeWarning) and continues without it.
    cache_dir : str or path, default=None
        Folder in which every phase of the training is saved, epoch by epoch. It is created if
        missing. A fit that was killed resumes from it. Fits that begin alike, such as those of a
        grid search, train their common phases once. The result is the same as without it, and
        fits may run in parallel. Requires the extra ``[persist]``.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, the order of the samples and the augmentation.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_classes,)
        Labels, sorted.
    isolate_ : numpy.ndarray of shape (n_isolated,), int64
        Flagged training rows, most suspect first.
    isolate_mask_ : numpy.ndarray of shape (n_samples,), bool
        The same, as a mask.
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Squared projection of a row's centred features on the main direction of its class. It is
        divided by the largest one of the class that is not flagged, so that all classes have one
        scale.
    isolate_threshold_ : float
        1: rows with a score above it are flagged.
    isolate_classes_ : numpy.ndarray of shape (n_suspect_classes,)
        Labels of the flagged rows: all but small classes.
    history_ : list of dict
        One entry an epoch: phase, epoch, objective (value minimised), loss (mean
        cross-entropy, nats), accuracy (on the training labels), learning_rate, seconds.
    n_features_in_ : int
        ``X.shape[1]``.
    input_shape_ : tuple of int
        Shape of one row of `X`.

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
        **FeatureDetector._parameter_constraints,
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
