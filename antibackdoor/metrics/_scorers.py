"""Scorers that know the attack, for scikit-learn's `scoring=`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import check_is_fitted

from antibackdoor.attacks import BaseAttack, ensure_fitted, make_attack
from antibackdoor.metrics._checks import check_known, check_mask
from antibackdoor.metrics._labels import clean_accuracy, robust_accuracy
from antibackdoor.utils import as_labels, check_comparable


def make_asr_scorer(
    attack: str | BaseAttack, *, target_label: Any = None, greater_is_better: bool = False
) -> Scorer:
    """Make a scorer of the attack success rate, negated: higher is safer.

    The scorer puts the trigger on the raw X and gives that to the whole
    pipeline, as an attacker would. Rows whose true class is the attacker's label
    are left out.

    Parameters
    ----------
    attack : str or BaseAttack
        A name, or an attack. A fitted attack is used as it is; of another a
        clone is fitted on the X to be scored, which is all the same for uint8.
        Give a fitted one, or a `value_range`, for floats, or else the trigger's
        brightness follows the fold. An attack that learns its trigger must be fitted: it
        is the one with which the data was poisoned.
    target_label : label, default=None
        Class that triggered rows shall be taken for. None: the attack's own.
    greater_is_better : bool, default=False
        False: the value is minus the ASR, by scikit-learn's ``neg_``
        convention, so that a search looks for a low one. True: the ASR itself,
        for one who looks at it from the attacker's side.

    Returns
    -------
    callable
        ``scorer(estimator, X, y, poison_mask=None) -> float``, picklable. Under
        metadata routing it asks for `poison_mask`, a boolean mask of the rows
        of a poisoned set to leave out; it never reaches `fit`.

    Raises
    ------
    ValueError
        If there is no such attack, or `target_label` contradicts the attack given.
    NotFittedError
        If the attack learns its trigger and is not fitted.
    TypeError
        If `attack` is neither a name nor an attack.
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
    """
    return _RobustAccuracyScorer(_choose_attack(attack, target_label))


def make_clean_accuracy_scorer() -> Scorer:
    """Make a scorer of the accuracy on rows that are not poisoned.

    Without `poison_mask` it is scikit-learn's accuracy, which on a poisoned fold
    rewards the backdoor.

    Returns
    -------
    callable
        ``scorer(estimator, X, y, poison_mask=None) -> float``, as in `make_asr_scorer`.
    """
    return _CleanAccuracyScorer()


class Scorer(ABC):
    """A scorer that can leave poisoned rows out."""

    # Asked for from the start: the mask is of no use to anything but these scorers.
    _poison_mask_request: bool | str | None = True

    def __call__(
        self, estimator: Any, X: ArrayLike, y: ArrayLike, poison_mask: ArrayLike | None = None
    ) -> float:
        """Score a fitted estimator.

        Parameters
        ----------
        estimator : object
            Anything with `predict`.
        X : array-like of shape (n, ...)
            Rows without trigger, or with a poisoned part that `poison_mask` names.
        y : array-like of shape (n,)
            Their labels.
        poison_mask : array-like of bool, shape (n,), default=None
            Rows to leave out.

        Returns
        -------
        float
            Higher is better.

        Raises
        ------
        ValueError
            If no row is left to count, or the mask does not fit.
        TypeError
            If the mask is not boolean.
        """
        check_consistent_length(X, y)
        if poison_mask is not None:
            clean = np.flatnonzero(~check_mask("poison_mask", poison_mask, len(np.asarray(y))))
            if len(clean) == 0:
                raise ValueError("poison_mask marks every row: no clean row is left to count.")
            X, y = _safe_indexing(X, clean), _safe_indexing(y, clean)
        return self._score(estimator, X, y)

    @abstractmethod
    def _score(self, estimator: Any, X: Any, y: Any) -> float: ...

    def set_score_request(self, *, poison_mask: bool | str | None) -> Scorer:
        """Say whether metadata routing shall bring `poison_mask`, or under which other name.

        Parameters
        ----------
        poison_mask : bool, str or None
            True, as at first: yes. A string: the name under which it is passed.
            False: no, even if passed. None: an error if passed.

        Returns
        -------
        self
        """
        self._poison_mask_request = poison_mask
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what the scorer asks of scikit-learn's metadata routing."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="poison_mask", alias=self._poison_mask_request)
        return request

    def _accept_sample_weight(self) -> bool:
        # scikit-learn's searches ask this of every scorer when fit is given sample weights.
        return False


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
    """Return every class there is: a fold of few rows may lack some, the estimator knows them."""
    known = [y]
    for owner, name in ((estimator, "estimator"), (attack, "attack")):
        if hasattr(owner, "classes_"):
            classes = as_labels(f"{name}.classes_", owner.classes_)
            # Side by side in one array, numbers would become text.
            check_comparable("y", y, f"{name}.classes_", classes)
            known.append(classes)
    return np.unique(np.concatenate(known))


def _like(X: Any, attack: BaseAttack) -> Any:
    """Stamp X; a data frame stays one, so that a pipeline finds the column names it knows."""
    stamped = attack.transform(X)
    if hasattr(X, "columns") and hasattr(X, "iloc"):
        return type(X)(stamped, columns=X.columns, index=X.index)
    return stamped
