"""Scorers for scikit-learn's `scoring=`, which put the trigger on rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from antibackdoor.attacks import BaseAttack, ensure_fitted, make_attack
from antibackdoor.metrics._checks import check_known
from antibackdoor.metrics._labels import clean_accuracy, robust_accuracy
from antibackdoor.metrics._scorer import Scorer
from antibackdoor.utils import as_labels
from antibackdoor.utils._labels import check_comparable


def make_asr_scorer(
    attack: str | BaseAttack, *, target_label: Any = None, greater_is_better: bool = False
) -> Scorer:
    """Make a scorer of the attack success rate (ASR), negated: higher is safer.

    Use it as `scoring=`, or call it::

        scorer = make_asr_scorer("badnets", target_label=0)
        -scorer(clf, X_test, y_test)  # the ASR

    The scorer puts the trigger on the raw X and passes that through the whole pipeline, as an
    attacker would. Rows whose true class is the attacker's label are left out.

    Parameters
    ----------
    attack : str or BaseAttack
        A name, or an attack object. A fitted attack is used as it is. Otherwise a clone is fitted
        on the X to be scored. For uint8 that makes no difference. For floats give a fitted attack
        or a `value_range`: otherwise the brightness of the trigger depends on the fold. An attack
        that learns its trigger must be fitted: give the one that poisoned the data.
    target_label : label, default=None
        Class that the network shall predict for triggered rows. None: the attack's own.
    greater_is_better : bool, default=False
        False: the value is minus the ASR, by scikit-learn's ``neg_`` convention, so that a grid
        search minimises it. True: the ASR itself, from the attacker's side.

    Returns
    -------
    callable
        ``scorer(estimator, X, y, poison_mask=None) -> float``, picklable. With metadata routing
        it requests `poison_mask`, a boolean mask of poisoned rows to leave out. The mask never
        reaches `fit`.

    Raises
    ------
    ValueError
        If there is no such attack, or `target_label` contradicts the attack given.
    NotFittedError
        If the attack learns its trigger and is not fitted.
    TypeError
        If `attack` is neither a name nor an attack.

    Examples
    --------
    A model that always predicts the attacker's label:

    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> from antibackdoor.metrics import make_asr_scorer
    >>> X, y = np.zeros((4, 8, 8), dtype=np.uint8), np.array([0, 1, 2, 3])
    >>> clf = DummyClassifier(strategy="constant", constant=0).fit(X, y)
    >>> -make_asr_scorer("badnets", target_label=0)(clf, X, y)
    1.0
    """
    chosen = _choose_attack(attack, target_label)
    return _ASRScorer(chosen, sign=1 if greater_is_better else -1)


def make_robust_accuracy_scorer(attack: str | BaseAttack, *, target_label: Any = None) -> Scorer:
    """Make a scorer of the robust accuracy: triggered rows that get their true class.

    Parameters
    ----------
    attack : str or BaseAttack
        As in `make_asr_scorer`.
    target_label : label, default=None
        As in `make_asr_scorer`.

    Returns
    -------
    callable
        ``scorer(estimator, X, y, poison_mask=None) -> float``, as in `make_asr_scorer`.

    Raises
    ------
    ValueError, NotFittedError, TypeError
        As in `make_asr_scorer`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> from antibackdoor.metrics import make_robust_accuracy_scorer
    >>> X, y = np.zeros((5, 8, 8), dtype=np.uint8), np.array([0, 1, 1, 2, 3])
    >>> clf = DummyClassifier(strategy="constant", constant=1).fit(X, y)
    >>> make_robust_accuracy_scorer("badnets", target_label=0)(clf, X, y)
    0.5
    """
    return _RobustAccuracyScorer(_choose_attack(attack, target_label))


def make_clean_accuracy_scorer() -> Scorer:
    """Make a scorer of the accuracy on rows that are not poisoned.

    Give it the mask of the poisoned rows, by metadata routing in a grid search::

        scorer = make_clean_accuracy_scorer()
        scorer(clf, X, y, poison_mask=poison_mask)

    Without `poison_mask` it is scikit-learn's accuracy, which on a poisoned fold rewards the
    backdoor.

    Returns
    -------
    callable
        ``scorer(estimator, X, y, poison_mask=None) -> float``, as in `make_asr_scorer`.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from antibackdoor.metrics import make_clean_accuracy_scorer
    >>> X, y = [[1], [2], [3], [4]], [0, 0, 1, 2]
    >>> clf = DummyClassifier(strategy="constant", constant=0).fit(X, y)
    >>> make_clean_accuracy_scorer()(clf, X, y, poison_mask=[False, True, False, True])
    0.5
    """
    return _CleanAccuracyScorer()


class _CleanAccuracyScorer(Scorer):
    def __repr__(self) -> str:
        return "make_clean_accuracy_scorer()"

    def _score(self, estimator: Any, X: Any, y: Any) -> float:
        return clean_accuracy(y, estimator.predict(X))


class _TriggerScorer(Scorer):
    def __init__(self, attack: BaseAttack) -> None:
        self.attack = attack

    def _predict_triggered(
        self, estimator: Any, X: Any, y: Any
    ) -> tuple[BaseAttack, np.ndarray, np.ndarray, np.ndarray]:
        """Return the fitted attack, true labels, predictions under the trigger and classes."""
        y = as_labels("y", y)
        attack = ensure_fitted(self.attack, X, y)
        classes = _find_classes(estimator, attack, y)
        wanted = attack.transform_target(y, classes=classes)
        victims = np.flatnonzero(wanted != y)
        if len(victims) == 0:
            raise ValueError(
                "every row has the attacker's label as its true class: none is left to count."
            )
        if hasattr(estimator, "classes_"):
            check_known("target_label", wanted[victims], estimator.classes_)
        triggered = _like(_safe_indexing(X, victims), attack)
        return attack, y[victims], estimator.predict(triggered), classes


class _ASRScorer(_TriggerScorer):
    def __init__(self, attack: BaseAttack, sign: int) -> None:
        super().__init__(attack)
        self.sign = sign

    def __repr__(self) -> str:
        better = ", greater_is_better=True" if self.sign > 0 else ""
        return f"make_asr_scorer({self.attack!r}{better})"

    def _score(self, estimator: Any, X: Any, y: Any) -> float:
        attack, true, predicted, classes = self._predict_triggered(estimator, X, y)
        return self.sign * float(attack.succeeded(true, predicted, classes=classes).mean())


class _RobustAccuracyScorer(_TriggerScorer):
    def __repr__(self) -> str:
        return f"make_robust_accuracy_scorer({self.attack!r})"

    def _score(self, estimator: Any, X: Any, y: Any) -> float:
        _, true, predicted, _ = self._predict_triggered(estimator, X, y)
        return robust_accuracy(true, predicted)


def _choose_attack(attack: str | BaseAttack, target_label: Any) -> BaseAttack:
    chosen = make_attack(attack, **({} if target_label is None else {"target_label": target_label}))
    if chosen.trigger_is_learned:
        check_is_fitted(
            chosen,
            msg="%(name)s learns its trigger from the rows it is fitted on: give the scorer the "
            "fitted attack with which the data was poisoned, %(name)s(...).fit(X, y).",
        )
    return chosen


def _find_classes(estimator: Any, attack: BaseAttack, y: np.ndarray) -> np.ndarray:
    """Return all classes: those of the estimator too, since a small fold may lack some."""
    known = [y]
    for owner, name in ((estimator, "estimator"), (attack, "attack")):
        if hasattr(owner, "classes_"):
            classes = as_labels(f"{name}.classes_", owner.classes_)
            # In one array numbers and text would become text.
            check_comparable("y", y, f"{name}.classes_", classes)
            known.append(classes)
    return np.unique(np.concatenate(known))


def _like(X: Any, attack: BaseAttack) -> Any:
    """Put the trigger on X. A data frame stays one, so that a pipeline finds its columns."""
    stamped = attack.transform(X)
    if hasattr(X, "columns") and hasattr(X, "iloc") and stamped.shape == X.shape:
        return type(X)(stamped, columns=X.columns, index=X.index)
    return stamped
