"""Display of the flagged images as a contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from antibackdoor.inspection._checks import check_isolates, check_training_rows
from antibackdoor.inspection._display import Display
from antibackdoor.inspection._pixels import layout_of, to_pixels, value_range
from antibackdoor.inspection._plotting import check_plot, new_axes, show_grid
from antibackdoor.inspection._suspects import most_suspect
from antibackdoor.utils import check_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(kw_only=True, eq=False, repr=False)
class SuspectsDisplay(Display):
    """Contact sheet of the most suspect images, each with its row and label.

    Make one with `from_estimator`, with the training data::

        SuspectsDisplay.from_estimator(clf, X, y)

    Parameters
    ----------
    images : numpy.ndarray of shape (n, H, W) or (n, H, W, 3), uint8
        Pixels, most suspect first.
    rows : numpy.ndarray of shape (n,), int
        Their indices in the training data.
    labels : numpy.ndarray of shape (n,)
        Their given labels.
    flagged : bool
        Whether they are flagged. If nothing is, the most suspect rows are shown.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the images.
    figure_ : matplotlib.figure.Figure
        Figure of the axes.

    See Also
    --------
    write_report : A page with all of them, to decide about each.

    Examples
    --------
    >>> from antibackdoor import LossRank, SuspectsDisplay, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, _ = make_poisoned(X[:300], y[:300], random_state=0)
    >>> detector = LossRank(ratio=0.02, epochs=2, random_state=0).fit(X_bad, y_bad)
    >>> display = SuspectsDisplay.from_estimator(detector, X_bad, y_bad, max_images=5)
    >>> display.images.shape
    (5, 8, 8)
    """

    images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    flagged: bool

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        max_images: int = 40,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the images that a fitted classifier flags.

        Parameters
        ----------
        estimator : object
            Fitted classifier with the `isolate_` family.
        X : array-like of shape (n_samples, ...)
            The images that it was fitted on.
        y : array-like of shape (n_samples,)
            Their labels.
        max_images : int, default=40
            Largest number of images to show.
        ax : matplotlib.axes.Axes, default=None
            Axes to plot on. None: those of a new figure.
        **kwargs : dict
            Arguments for `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        SuspectsDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If X and y are not what it was fitted on, hold no images, or `max_images` is less
            than 1.
        TypeError
            If it lists no suspects, or `max_images` is no whole number.
        """
        check_plot(f"{cls.__name__}.from_estimator")
        check_isolates(estimator, "estimator")
        max_images = check_count("max_images", max_images)
        X, y = check_training_rows(estimator, X, y)
        layout = layout_of(estimator, X.shape[1:])
        if layout is None:
            raise ValueError(
                f"X has rows of shape {X.shape[1:]}, a table; wanted images. write_report shows "
                f"the values of a table."
            )
        rows = most_suspect(estimator, max_images)
        suspects = np.asarray(X[rows])
        display = cls(
            images=to_pixels(suspects, layout, value_range(suspects)),
            rows=rows,
            labels=y[rows],
            flagged=len(estimator.isolate_) > 0,
        )
        return display.plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, *, n_columns: int = 10, **kwargs: Any) -> Self:
        """Plot the images.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to plot on. None: those of a new figure.
        n_columns : int, default=10
            Images in a line.
        **kwargs : dict
            Arguments for `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        SuspectsDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If `n_columns` is no whole number that is at least 1.
        """
        check_plot(f"{type(self).__name__}.plot")
        n_columns = check_count("n_columns", n_columns)
        n_lines = max(1, -(-len(self.images) // n_columns))
        ax = new_axes(figsize=(10, 1.2 * n_lines + 0.5)) if ax is None else ax
        return super().plot(ax, n_columns=n_columns, **kwargs)

    def _draw(self, ax: Axes, n_columns: int = 10, **kwargs: Any) -> None:
        if len(self.images):
            titles = [f"{label} ({row})" for row, label in zip(self.rows, self.labels, strict=True)]
            show_grid(
                ax, list(self.images), titles, n_columns, **({"vmin": 0, "vmax": 255} | kwargs)
            )
        else:
            ax.set_axis_off()
        ax.set_title(self._title(), fontsize="medium")

    def _title(self) -> str:
        if self.flagged:
            return f"The {len(self.rows)} most suspect flagged images: label (row)"
        if len(self.rows):
            return f"Nothing is flagged. The {len(self.rows)} most suspect images: label (row)"
        return "Nothing is flagged, and no row is more suspect than another"
