"""Display of the history of a training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.callback import ScoringMonitor

from antibackdoor.inspection._checks import check_isolates
from antibackdoor.inspection._logs import align, blocks_of, losses_of, scores_of
from antibackdoor.inspection._loss_recorder import LossRecorder
from antibackdoor.inspection._plotting import check_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(kw_only=True, eq=False, repr=False)
class HistoryDisplay:
    """Plot of accuracy and losses by epoch, through all phases of a fit.

    Make one with `from_estimator`::

        HistoryDisplay.from_estimator(clf)

    Parameters
    ----------
    phases : sequence of str
        Name of the phase of each epoch.
    starts : sequence of int
        First epoch of each phase, counted through the whole fit.
    rates : dict of str to numpy.ndarray of shape (n_epochs,)
        Rates such as CA and ASR, by name; nan where not measured.
    losses : dict of str to numpy.ndarray of shape (n_epochs,)
        Losses in nats, by name; nan where not measured.

    Attributes
    ----------
    ax_ : numpy.ndarray of shape (2,)
        The axes of the rates and of the losses.
    figure_ : matplotlib.figure.Figure
        Figure of the axes.

    See Also
    --------
    LossRecorder : Callback that records the loss of each row.

    Examples
    --------
    >>> from antibackdoor import UndefendedClassifier
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.inspection import HistoryDisplay
    >>> X, y = load_digits_images()
    >>> clf = UndefendedClassifier(epochs=2, random_state=0).fit(X[:200], y[:200])
    >>> sorted(HistoryDisplay.from_estimator(clf).rates)
    ['accuracy on the training labels']
    """

    phases: Sequence[str]
    starts: Sequence[int]
    rates: Mapping[str, np.ndarray]
    losses: Mapping[str, np.ndarray]

    ax_: np.ndarray = field(init=False)
    figure_: Figure | None = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        monitor: ScoringMonitor | None = None,
        recorder: LossRecorder | None = None,
        ax: Sequence[Axes] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the history of a fitted classifier, and the logs of callbacks of its fit.

        Parameters
        ----------
        estimator : object
            Fitted classifier with `history_`.
        monitor : sklearn.callback.ScoringMonitor, default=None
            Callback of the fit. Scores whose name begins with ``neg_`` are shown without the
            sign; scores that are called a loss are in the lower plot. It scores the training
            rows; to score held-out rows, give it a `scoring` that has its own.
        recorder : LossRecorder, default=None
            Callback of the fit: adds the mean losses of flagged and of other rows.
        ax : sequence of two matplotlib.axes.Axes, default=None
            For the rates and the losses. None: those of a new figure.
        **kwargs : dict
            Arguments for `matplotlib.axes.Axes.plot`.

        Returns
        -------
        HistoryDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the classifier is not fitted.
        TypeError
            If it has no history.
        ValueError
            If a callback was not in this fit, or in several, or if `ax` is not two axes.
        """
        check_plot(f"{cls.__name__}.from_estimator")
        check_isolates(estimator, "estimator")
        if not hasattr(estimator, "history_"):
            raise TypeError(f"estimator is a {type(estimator).__name__}, which has no history_.")
        history = estimator.history_
        blocks = blocks_of(history)
        rates = {"accuracy on the training labels": _values(history, "accuracy")}
        losses = {"mean loss in training": _values(history, "loss")}
        if monitor is not None:
            for name, logged in scores_of(monitor).items():
                curves = losses if "loss" in name else rates
                curves[name] = align("monitor", logged, blocks, len(history))
        if recorder is not None:
            for name, logged in losses_of(recorder, estimator.isolate_mask_).items():
                losses[name] = align("recorder", logged, blocks, len(history))
        display = cls(
            phases=[row["phase"] for row in history],
            starts=[start for _, start, _ in blocks],
            rates=rates,
            losses=losses,
        )
        return display.plot(ax, **kwargs)

    def plot(self, ax: Sequence[Axes] | None = None, **kwargs: Any) -> Self:
        """Plot the curves.

        Parameters
        ----------
        ax : sequence of two matplotlib.axes.Axes, default=None
            For the rates and the losses. None: those of a new figure.
        **kwargs : dict
            Arguments for `matplotlib.axes.Axes.plot`.

        Returns
        -------
        HistoryDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `ax` is not two axes.
        """
        check_plot(f"{type(self).__name__}.plot")
        axes = self._new_axes() if ax is None else np.ravel(np.asarray(ax, dtype=object))
        if len(axes) != 2:
            raise ValueError(
                f"ax holds {len(axes)} axes; wanted two, for the rates and the losses."
            )
        for panel, curves, scale in zip(axes, (self.rates, self.losses), (100, 1), strict=True):
            for name, values in curves.items():
                settings: dict[str, Any] = {
                    "label": name,
                    "marker": ".",
                    "markersize": 4,
                    "linewidth": 1.2,
                }
                # Phases are not connected by lines, since each may train another network.
                epochs = np.insert(np.arange(len(values), dtype=float), self.starts[1:], np.nan)
                drawn = np.insert(scale * values, self.starts[1:], np.nan)
                panel.plot(epochs, drawn, **(settings | kwargs))
            for start in self.starts[1:]:
                panel.axvline(start - 0.5, color="black", linewidth=0.6, linestyle=":")
            panel.grid(alpha=0.3)
            panel.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        for start in self.starts:
            where = axes[0].get_xaxis_transform()
            axes[0].text(start, 1.02, self.phases[start], transform=where, fontsize="small")
        axes[0].set(ylabel="%", ylim=(-4, 104))
        axes[1].set(xlabel="epoch, counted through the whole fit", ylabel="loss, nats")
        self.ax_, self.figure_ = axes, axes[0].get_figure(root=True)
        return self

    def _new_axes(self) -> np.ndarray:
        import matplotlib.pyplot as plt

        return plt.subplots(2, sharex=True, figsize=(9, 5), layout="constrained")[1]


def _values(history: list[dict[str, Any]], column: str) -> np.ndarray:
    return np.array([row[column] for row in history], dtype=float)
