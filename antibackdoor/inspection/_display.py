"""Base of the displays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from antibackdoor.inspection._plotting import check_plot, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Display(ABC):
    """Base of the displays that plot on one pair of axes; a display implements `_draw`."""

    ax_: Axes
    figure_: Figure | None

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Plot it.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to plot on. None: those of a new figure.
        **kwargs : dict
            As in `from_estimator`.

        Returns
        -------
        object
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_plot(f"{type(self).__name__}.plot")
        ax = new_axes(**self._figure()) if ax is None else ax
        self._draw(ax, **kwargs)
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)
        return self

    def _figure(self) -> dict[str, Any]:
        """Return the arguments of a new figure."""
        return {}

    @abstractmethod
    def _draw(self, ax: Axes, **kwargs: Any) -> None:
        """Plot on axes."""
