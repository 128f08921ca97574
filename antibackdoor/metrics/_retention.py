"""Scores without knowledge of the trigger: how many suspects keep the attacker's label."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import _num_samples

from antibackdoor.metrics._checks import check_at_least_zero, check_known, check_label_pair
from antibackdoor.metrics._labels import clean_accuracy
from antibackdoor.metrics._scorer import Scorer
from antibackdoor.utils import as_labels, naming


def suspect_retention(y_suspects: ArrayLike, y_pred: ArrayLike) -> float:
    """Share of suspect rows that a model predicts as their given label.

    The given label of poison is the attacker's. A backdoored model predicts it for all poison, a
    clean model for little of it.

    Parameters
    ----------
    y_suspects : array-like of shape (n,)
        Given labels of the suspect rows: ``y[clf.isolate_]``.
    y_pred : array-like of shape (n,)
        Labels predicted for the same rows.

    Returns
    -------
    float
        Between 0 and 1; lower is better.

    Raises
    ------
    ValueError, TypeError
        As `clean_accuracy`.

    Examples
    --------
    >>> from antibackdoor.metrics import suspect_retention
    >>> suspect_retention([0, 0, 0, 0], [0, 3, 7, 1])
    0.25
    """
    labels, predicted = check_label_pair(y_suspects, y_pred, "y_suspects")
    return float(np.mean(labels == predicted))


def make_retention_scorer(
    X_suspects: ArrayLike, y_suspects: ArrayLike, *, accuracy_weight: float = 1.0
) -> Scorer:
    """Make a scorer of accuracy minus `suspect_retention`: it needs no trigger.

    Fit a defence once, take its flagged rows as suspects, and let a grid search compare settings
    by this score. It replaces clean accuracy minus ASR, and is as good as the flags are.

    Parameters
    ----------
    X_suspects : array-like of shape (n_suspects, ...)
        Suspect rows, at least one, of the same kind as the X of the search:
        ``X[clf.isolate_]``, or a part of them that the search does not train on (see Notes).
    y_suspects : array-like of shape (n_suspects,)
        Their given labels: ``y[clf.isolate_]``.
    accuracy_weight : float, default=1.0
        Weight of the accuracy on the rows to be scored, at least 0. With 0 the score is minus the
        retention, for a search with several scores.

    Returns
    -------
    callable
        ``scorer(estimator, X, y, poison_mask=None) -> float``, picklable; higher is
        better. With metadata routing it requests `poison_mask`, a boolean mask of rows that the
        accuracy leaves out: pass `isolate_mask_`.

    Raises
    ------
    ValueError
        If there are no suspects, their labels are not as many, or
        `accuracy_weight` is negative or no number. When called, if text meets numbers or
        bytes, or the estimator has `classes_` and no suspect's label is among them.
    TypeError
        If `X_suspects` has no rows to count, or labels are no text, bytes, numbers or
        booleans.

    See Also
    --------
    make_asr_scorer : The ASR itself, if the trigger is known.
    lowest_asr_within : Accepts this score in place of the ASR.

    Notes
    -----
    **It compares models; it does not estimate the ASR.** A clean model also predicts the given
    label for rows that were flagged wrongly, and for a few others by mistake. This minimum is
    about the same for models that are clean in the same way, and hardly changes their order. It
    is lower for a model that was trained against wrongly flagged rows.

    **Wrong flags.** If few suspects are poison, an accurate model keeps their labels, and the
    score favours models that are wrong about them. A common label of the suspects proves nothing:
    they can be clean rows of the attacker's class. So look at some of them. Suspects of a
    clean-label attack have their true label, and the score does not measure anything for them.

    **Poison among the rows to be scored.** A backdoored model predicts the label of this poison,
    and gains accuracy by its share of the rows, some per cent. It loses far more by its
    retention. `poison_mask` leaves these rows out.

    **Suspects that were trained on.** If a model has memorised these very rows, or unlearned only
    these, its retention reflects that, and not its reaction to the trigger on a new row. In
    cross-validation most suspects are in the training folds. To be safe, flag first, keep some of
    the suspects out of the search, and give only those to the scorer.

    Examples
    --------
    A model that always predicts 0 is right about two of four rows, and predicts the attacker's
    label for each suspect:

    >>> from sklearn.dummy import DummyClassifier
    >>> from antibackdoor.metrics import lowest_asr_within, make_retention_scorer
    >>> X, y = [[1], [2], [3], [4]], [0, 0, 1, 2]
    >>> clf = DummyClassifier(strategy="constant", constant=0).fit(X, y)
    >>> make_retention_scorer([[5], [6]], [0, 0])(clf, X, y)
    -0.5

    Of the settings that lose at most two points of accuracy, take the one that keeps the labels
    of the fewest suspects:

    >>> neg_retention = make_retention_scorer([[5], [6]], [0, 0], accuracy_weight=0)
    >>> scoring = {"ca": "accuracy", "neg_retention": neg_retention}
    >>> refit = lowest_asr_within(0.02, asr="neg_retention")
    """
    with naming("X_suspects"):
        n_suspects = _num_samples(X_suspects)
    labels = as_labels("y_suspects", y_suspects)
    if n_suspects != len(labels):
        raise ValueError(f"X_suspects has {n_suspects} rows, but y_suspects {len(labels)} labels.")
    if n_suspects == 0:
        raise ValueError(
            "X_suspects and y_suspects are empty; wanted one suspect row or more. If a defence "
            "flags nothing, models cannot be compared by this score."
        )
    weight = check_at_least_zero("accuracy_weight", accuracy_weight)
    if not isfinite(weight):
        raise ValueError(f"accuracy_weight={accuracy_weight!r}; wanted a finite number.")
    return _RetentionScorer(X_suspects, labels, weight)


class _RetentionScorer(Scorer):
    def __init__(self, X_suspects: Any, y_suspects: np.ndarray, accuracy_weight: float) -> None:
        self.X_suspects = X_suspects
        self.y_suspects = y_suspects
        self.accuracy_weight = accuracy_weight

    def __repr__(self) -> str:
        # A grid search prints its scorers, so only the number of rows is shown.
        weight = "" if self.accuracy_weight == 1 else f", accuracy_weight={self.accuracy_weight:g}"
        return f"make_retention_scorer(<{len(self.y_suspects)} suspects>{weight})"

    def _score(self, estimator: Any, X: Any, y: Any) -> float:
        # A classifier cannot predict labels it has never seen: the retention would be 0 wrongly.
        if hasattr(estimator, "classes_"):
            check_known("y_suspects", self.y_suspects, estimator.classes_)
        retention = suspect_retention(self.y_suspects, estimator.predict(self.X_suspects))
        accuracy = clean_accuracy(y, estimator.predict(X)) if self.accuracy_weight else 0.0
        return self.accuracy_weight * accuracy - retention
