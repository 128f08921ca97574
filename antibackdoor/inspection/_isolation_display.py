"""Display of the suspicion scores of the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import column_or_1d

from antibackdoor.inspection._checks import check_isolates
from antibackdoor.inspection._display import Display
from antibackdoor.inspection._histogram import bin_edges
from antibackdoor.inspection._plotting import FLAGGED, OTHERS, check_plot
from antibackdoor.utils import naming
from antibackdoor.utils._arguments import check_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(kw_only=True, eq=False, repr=False)
class IsolationDisplay(Display):
    """Histogram of the suspicion scores of the training rows, with the threshold of the flags.

    Make one with `from_estimator` or `from_predictions`::

        IsolationDisplay.from_estimator(clf)

    Parameters
    ----------
    scores : numpy.ndarray of shape (n_samples,)
        Suspicion scores; higher is more suspect.
    threshold : float
        Rows with a score above it are flagged.
    poison_mask : numpy.ndarray of shape (n_samples,), bool, default=None
        The poisoned rows, if known: then poison and other rows have different colours, instead of
        flagged and other rows.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the histogram.
    figure_ : matplotlib.figure.Figure
        Figure of the axes.

    See Also
    --------
    SuspectsDisplay : The flagged images themselves.

    Examples
    --------
    >>> from antibackdoor.inspection import IsolationDisplay
    >>> display = IsolationDisplay.from_predictions([0.1, 0.2, 0.1, 0.9], 0.5)
    >>> display.ax_.get_xlabel()
    'suspicion'
    """

    scores: np.ndarray
    threshold: float
    poison_mask: np.ndarray | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        poison_mask: ArrayLike | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the suspicion scores that a fitted classifier gives to its training rows.

        Parameters
        ----------
        estimator : object
            Fitted classifier with the `isolate_` family.
        poison_mask : array-like of bool, shape (n_samples,), default=None
            Which rows are poison, where that is known.
        ax : matplotlib.axes.Axes, default=None
            Axes to plot on. None: those of a new figure.
        **kwargs : dict
            Arguments for `matplotlib.axes.Axes.hist`.

        Returns
        -------
        IsolationDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the classifier is not fitted.
        TypeError
            If it lists no suspects, or `poison_mask` is not boolean.
        ValueError
            If `poison_mask` has another length.
        """
        check_isolates(estimator, "estimator")
        return cls.from_predictions(
            estimator.isolate_scores_,
            estimator.isolate_threshold_,
            poison_mask=poison_mask,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        scores: ArrayLike,
        threshold: float,
        *,
        poison_mask: ArrayLike | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Plot suspicion scores and their threshold.

        Parameters
        ----------
        scores : array-like of shape (n_samples,)
            Suspicion scores, finite, of one row or more; higher is more suspect.
        threshold : float
            Rows with a score above it are flagged.
        poison_mask : array-like of bool, shape (n_samples,), default=None
            Which rows are poison, where that is known.
        ax : matplotlib.axes.Axes, default=None
            Axes to plot on. None: those of a new figure.
        **kwargs : dict
            Arguments for `matplotlib.axes.Axes.hist`.

        Returns
        -------
        IsolationDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `poison_mask` is not boolean.
        ValueError
            If there are no scores, or one is not finite, the threshold is nan, or
            `poison_mask` has another length.
        """
        check_plot(f"{cls.__name__}.from_predictions")
        with naming("scores"):
            checked = column_or_1d(scores, dtype=np.float64)
        if len(checked) == 0 or not np.isfinite(checked).all():
            raise ValueError("scores is empty or holds NaN or infinity; wanted finite numbers.")
        with naming("threshold"):
            threshold = float(threshold)
        if np.isnan(threshold):
            raise ValueError("threshold=nan; wanted a number, above which rows are flagged.")
        mask = None if poison_mask is None else check_mask("poison_mask", poison_mask, len(checked))
        return cls(scores=checked, threshold=threshold, poison_mask=mask).plot(ax, **kwargs)

    def _draw(self, ax: Axes, **kwargs: Any) -> None:
        suspect = self.scores > self.threshold if self.poison_mask is None else self.poison_mask
        names = ("other", "flagged") if self.poison_mask is None else ("clean", "poisoned")
        settings: dict[str, Any] = {
            "bins": bin_edges(self.scores, self.threshold),
            "stacked": True,
            "color": [OTHERS, FLAGGED],
            "label": [
                f"{name} rows ({count})"
                for name, count in zip(names, (np.sum(~suspect), np.sum(suspect)), strict=True)
            ],
            # On a logarithmic axis few rows are visible beside many.
            "log": True,
        }
        ax.hist([self.scores[~suspect], self.scores[suspect]], **(settings | kwargs))
        if ax.get_yscale() == "log":
            ax.set_ylim(bottom=0.5)  # so that a bar of a single row is visible
        if np.isfinite(self.threshold):
            cut = f"flagged above {self.threshold:.3g}"
            ax.axvline(self.threshold, color="black", linestyle="--", linewidth=1, label=cut)
        ax.set(xlabel="suspicion", ylabel="rows")
        ax.legend(frameon=False)
