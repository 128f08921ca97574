"""Display of clean accuracy against attack success rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from antibackdoor.attacks import BaseAttack
from antibackdoor.inspection._display import Display
from antibackdoor.inspection._plotting import check_plot
from antibackdoor.metrics import (
    attack_success_rate,
    clean_accuracy,
    make_asr_scorer,
    make_clean_accuracy_scorer,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS = "osD^vP*Xhp<>d"


@dataclass(kw_only=True, eq=False, repr=False)
class TradeoffDisplay(Display):
    """Plot of attack success rate (ASR) against clean accuracy (CA), one mark a classifier.

    Make one with `from_estimator`, `from_predictions` or `from_cv_results`::

        TradeoffDisplay.from_estimator(clf, X_test, y_test, attack="badnets")

    Parameters
    ----------
    ca : array-like of shape (n_points,)
        Clean accuracies, as shares.
    asr : array-like of shape (n_points,)
        Attack success rates, as shares.
    ca_std : array-like of shape (n_points,), default=None
        Their standard deviations, drawn as bars; nan for none.
    asr_std : array-like of shape (n_points,), default=None
        The same for the ASR.
    names : sequence of str, default=None
        Name of each point; points of the same name have the same mark. None: no legend.
    best_index : int, default=None
        Index of a point to draw a ring around.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the marks.
    figure_ : matplotlib.figure.Figure
        Figure of the axes.

    See Also
    --------
    antibackdoor.metrics.lowest_asr_within : Chooses among the candidates of a grid search.

    Examples
    --------
    >>> from antibackdoor.inspection import TradeoffDisplay
    >>> results = {"mean_test_ca": [0.95, 0.94], "mean_test_neg_asr": [-0.9, -0.1]}
    >>> TradeoffDisplay.from_cv_results(results).asr
    array([0.9, 0.1])
    """

    ca: ArrayLike
    asr: ArrayLike
    ca_std: ArrayLike | None = None
    asr_std: ArrayLike | None = None
    names: Sequence[str] | None = None
    best_index: int | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        attack: str | BaseAttack,
        target_label: Any = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the CA and ASR of fitted classifiers, on test rows without and with the trigger.

        Parameters
        ----------
        estimator : object or dict of str to object
            A fitted classifier or pipeline, or several by name.
        X : array-like of shape (n_samples, ...)
            Test rows without trigger.
        y : array-like of shape (n_samples,)
            Their true labels.
        attack : str or BaseAttack
            As in `make_asr_scorer`.
        target_label : label, default=None
            As in `make_asr_scorer`.
        ax : matplotlib.axes.Axes, default=None
            Axes to plot on. None: those of a new figure.
        **kwargs : dict
            Arguments for `matplotlib.axes.Axes.errorbar`.

        Returns
        -------
        TradeoffDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError, NotFittedError
            As for the scorers, or if there is no classifier.
        """
        check_plot(f"{cls.__name__}.from_estimator")
        named = estimator if isinstance(estimator, Mapping) else {_name_of(estimator): estimator}
        if not named:
            raise ValueError("estimator is empty; wanted one fitted classifier or more.")
        ca_scorer = make_clean_accuracy_scorer()
        asr_scorer = make_asr_scorer(attack, target_label=target_label, greater_is_better=True)
        display = cls(
            ca=np.array([ca_scorer(each, X, y) for each in named.values()]),
            asr=np.array([asr_scorer(each, X, y) for each in named.values()]),
            names=[str(name) for name in named],
        )
        return display.plot(ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        y_pred_triggered: ArrayLike,
        *,
        target_label: Any,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the CA and ASR of predictions for test rows without and with the trigger.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_pred : array-like of shape (n_samples,)
            Labels predicted without the trigger.
        y_pred_triggered : array-like of shape (n_samples,)
            Labels predicted with the trigger.
        target_label : label, or array-like of shape (n_samples,)
            The attacker's label, for all rows or for each row.
        name : str, default=None
            Name of the classifier.
        ax : matplotlib.axes.Axes, default=None
            Axes to plot on. None: those of a new figure.
        **kwargs : dict
            Arguments for `matplotlib.axes.Axes.errorbar`.

        Returns
        -------
        TradeoffDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the labels differ in number or kind, or every row is of the target class.
        """
        check_plot(f"{cls.__name__}.from_predictions")
        asr = attack_success_rate(
            y_true, y_pred_triggered, target_label=target_label, classes=y_pred
        )
        display = cls(
            ca=np.array([clean_accuracy(y_true, y_pred)]),
            asr=np.array([asr]),
            names=None if name is None else [name],
        )
        return display.plot(ax, **kwargs)

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        *,
        ca: str = "ca",
        asr: str = "neg_asr",
        param: str | None = None,
        best_index: int | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the candidates of a grid search.

        Parameters
        ----------
        cv_results : dict
            `cv_results_` of a fitted search.
        ca : str, default="ca"
            Name of the clean accuracy in `scoring`.
        asr : str, default="neg_asr"
            Name of the ASR in `scoring`, negated or not.
        param : str, default=None
            Parameter of the search whose values get different marks.
        best_index : int, default=None
            Candidate to draw a ring around, such as the `best_index_` of the search.
        ax : matplotlib.axes.Axes, default=None
            Axes to plot on. None: those of a new figure.
        **kwargs : dict
            Arguments for `matplotlib.axes.Axes.errorbar`.

        Returns
        -------
        TradeoffDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If a score or the parameter is missing, or `best_index` is not a candidate.
        """
        check_plot(f"{cls.__name__}.from_cv_results")
        accuracy = _column(cv_results, "mean_test_", ca)
        rates = _column(cv_results, "mean_test_", asr)
        if best_index is not None and not 0 <= best_index < len(accuracy):
            raise ValueError(f"best_index={best_index!r}; there are {len(accuracy)} candidates.")
        names = None
        if param is not None:
            values = _column(cv_results, "param_", param, dtype=object)
            names = [f"{param}={value}" for value in values]
        deviations = {
            f"{ours}_std": np.asarray(cv_results[f"std_test_{theirs}"], dtype=float)
            for ours, theirs in (("ca", ca), ("asr", asr))
            if f"std_test_{theirs}" in cv_results
        }
        # Rates are not negative, so that a minus sign comes from scikit-learn's convention.
        display = cls(
            ca=accuracy, asr=np.abs(rates), names=names, best_index=best_index, **deviations
        )
        return display.plot(ax, **kwargs)

    def _figure(self) -> dict[str, Any]:
        return {"figsize": (8, 4.5)}

    def _draw(self, ax: Axes, **kwargs: Any) -> None:
        ca, asr = _per_cent(self.ca), _per_cent(self.asr)
        bars = [
            np.zeros(len(ca)) if deviations is None else np.nan_to_num(_per_cent(deviations))
            for deviations in (self.ca_std, self.asr_std)
        ]
        names = np.array([""] * len(ca) if self.names is None else list(self.names), dtype=object)
        for number, name in enumerate(dict.fromkeys(names)):
            points = names == name
            settings: dict[str, Any] = {
                "fmt": _MARKS[number % len(_MARKS)],
                "alpha": 0.8,
                "elinewidth": 0.8,
                "label": name or None,
            }
            ax.errorbar(
                ca[points],
                asr[points],
                xerr=bars[0][points],
                yerr=bars[1][points],
                **(settings | kwargs),
            )
        if self.best_index is not None:
            best = ca[self.best_index], asr[self.best_index]
            ax.plot(*best, "o", ms=14, mfc="none", mec="black", label="chosen")
        ax.set(
            xlabel="clean accuracy, % (right is better)",
            ylabel="attack success rate, % (down is better)",
            ylim=(-4, 104),
        )
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[1]:
            ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)


def _name_of(estimator: Any) -> str:
    steps = getattr(estimator, "steps", None)
    return type(estimator if steps is None else steps[-1][1]).__name__


def _column(
    cv_results: Mapping[str, Any], prefix: str, name: str, dtype: Any = float
) -> np.ndarray:
    if prefix + name not in cv_results:
        known = sorted(key.removeprefix(prefix) for key in cv_results if key.startswith(prefix))
        raise ValueError(f"cv_results has no {prefix + name!r}; after {prefix!r} it has {known}.")
    return np.asarray(cv_results[prefix + name], dtype=dtype)


def _per_cent(shares: ArrayLike) -> np.ndarray:
    return 100 * np.asarray(shares, dtype=float)
