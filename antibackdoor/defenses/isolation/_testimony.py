"""What a network that does not know a class says about the two parts of its rows."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp


def divergence(probabilities: np.ndarray, known: np.ndarray, class_sizes: np.ndarray) -> float:
    """Return how far some rows are from a sample of the classes that a network knows.

    Rows whose label is an attacker's come from the other classes, and a network that has
    been trained without their label sees it: what it says of them follows the sizes of the
    classes. Rows that are of the unknown class it takes for the one or two known classes
    that look alike.

    Parameters
    ----------
    probabilities : numpy.ndarray of shape (n_rows, n_classes)
    known : numpy.ndarray of shape (n_classes,), bool
        Classes that the network has been trained on.
    class_sizes : numpy.ndarray of shape (n_classes,)
        Rows of each class in the data.

    Returns
    -------
    float
        Kullback-Leibler divergence of the mean prediction among the known classes from
        their shares of the data, in nats.
    """
    said = probabilities[:, known].mean(axis=0).astype(np.float64) + 1e-12
    said /= said.sum()
    expected = class_sizes[known] / class_sizes[known].sum()
    return float((said * np.log(said / expected)).sum())


def assurance(logits: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return how sure a network is of one of the classes it knows.

    It is surer of rows that are of these classes, whatever their label, than of rows of
    a class it has never seen; how much, depends on how good a network it is.

    Parameters
    ----------
    logits : numpy.ndarray of shape (n_rows, n_classes)
    known : numpy.ndarray of shape (n_classes,), bool

    Returns
    -------
    numpy.ndarray of shape (n_rows,)
        Logarithm of the odds of the likeliest known class against the other known ones.
    """
    ranked = np.sort(logits[:, known], axis=1)
    return ranked[:, -1] - logsumexp(ranked[:, :-1], axis=1)
