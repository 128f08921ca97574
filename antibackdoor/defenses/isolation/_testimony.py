"""What a network says about rows whose label it does not know, or is not asked about."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp, softmax
from scipy.stats import entropy


def information(logits: np.ndarray, known: np.ndarray) -> float:
    """Return how much it depends on the row what a network says, among the classes it knows.

    Rows whose label is an attacker's come from the other classes, and a network that has been
    trained without their label recognises each for what it is. Rows of the unknown class
    it takes all for the one or two known classes that look alike; or, where they are odd ones,
    it is sure of none.

    Parameters
    ----------
    logits : numpy.ndarray of shape (n_rows, n_classes)
    known : numpy.ndarray of shape (n_classes,), bool
        Classes that are looked at: those that the network has been trained on, or some of them.

    Returns
    -------
    float
        Mutual information of row and class, in nats: the entropy of the mean prediction less
        the mean entropy of the predictions. 0 where all rows are told the same.
    """
    said = softmax(logits[:, known], axis=1)
    return float(entropy(said.mean(axis=0)) - entropy(said, axis=1).mean())


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
