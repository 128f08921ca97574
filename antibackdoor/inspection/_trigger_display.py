"""Display of the trigger of an attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from antibackdoor.attacks import BaseAttack, ensure_fitted, make_attack
from antibackdoor.inspection._display import Display
from antibackdoor.inspection._pixels import to_pixels, value_range
from antibackdoor.inspection._plotting import check_plot, show_grid
from antibackdoor.utils import check_count, naming, resolve_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(kw_only=True, eq=False, repr=False)
class TriggerDisplay(Display):
    """Plot of images without and with the trigger, and of the difference, one image a line.

    Make one with `from_estimator` or `from_predictions`::

        TriggerDisplay.from_estimator("badnets", X)

    The absolute difference is scaled so that the largest of all is white. It shows where a faint
    trigger is, but not how strong it is.

    Parameters
    ----------
    clean : numpy.ndarray of shape (n, H, W) or (n, H, W, 3), uint8
        Pixels without trigger.
    triggered : numpy.ndarray of the same shape, uint8
        Pixels with the trigger.
    difference : numpy.ndarray of the same shape, uint8
        Absolute difference, scaled to 0 to 255.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the images.
    figure_ : matplotlib.figure.Figure
        Figure of the axes.

    Examples
    --------
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.inspection import TriggerDisplay
    >>> X, y = load_digits_images()
    >>> display = TriggerDisplay.from_estimator("badnets", X, n_images=2)
    >>> display.difference.shape
    (2, 8, 8)
    """

    clean: np.ndarray
    triggered: np.ndarray
    difference: np.ndarray

    @classmethod
    def from_estimator(
        cls,
        estimator: str | BaseAttack,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        n_images: int = 4,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the first images of X without and with the trigger of an attack.

        Parameters
        ----------
        estimator : str or BaseAttack
            A name, or an attack object. A fitted attack is used as it is; otherwise a clone is
            fitted on X and y.
        X : array-like of shape (n_samples, ...)
            Clean rows, in any layout that the attack accepts. Plain features are shown as images
            one pixel high.
        y : array-like of shape (n_samples,), default=None
            Their labels, for attacks that need them in `fit`.
        n_images : int, default=4
            Largest number of images to show.
        ax : matplotlib.axes.Axes, default=None
            Axes to plot on. None: those of a new figure.
        **kwargs : dict
            Arguments for `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        TriggerDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If there is no such attack, it does not accept X, or `n_images` is not a whole number
            of at least 1.
        """
        check_plot(f"{cls.__name__}.from_estimator")
        n_images = check_count("n_images", n_images)
        attack = ensure_fitted(make_attack(estimator), X, y)
        clean = np.asarray(X)[:n_images]
        return cls._from_rows(clean, attack.transform(clean), attack.layout_, ax, kwargs)

    @classmethod
    def from_predictions(
        cls,
        X: ArrayLike,
        X_triggered: ArrayLike,
        *,
        n_images: int = 4,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Plot the first images without and with the trigger.

        Parameters
        ----------
        X : array-like of shape (n_samples, H, W), (n_samples, H, W, C) or (n_samples, C, H, W)
            Images without trigger.
        X_triggered : array-like of the same shape
            The same images with the trigger.
        n_images : int, default=4
            Largest number of images to show.
        ax : matplotlib.axes.Axes, default=None
            Axes to plot on. None: those of a new figure.
        **kwargs : dict
            Arguments for `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        TriggerDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If the two differ in shape, hold no images or NaN, or `n_images` is no whole
            number that is at least 1.
        """
        check_plot(f"{cls.__name__}.from_predictions")
        n_images = check_count("n_images", n_images)
        clean, triggered = np.asarray(X), np.asarray(X_triggered)
        if clean.shape != triggered.shape:
            raise ValueError(
                f"X has shape {clean.shape}, but X_triggered {triggered.shape}; wanted the same."
            )
        if clean.ndim < 3:
            raise ValueError(f"X has shape {clean.shape}; wanted images, an array of 3 or 4 axes.")
        layout = resolve_layout(clean.shape[1:])
        return cls._from_rows(clean[:n_images], triggered[:n_images], layout, ax, kwargs)

    @classmethod
    def _from_rows(
        cls,
        clean: np.ndarray,
        triggered: np.ndarray,
        layout: Any,
        ax: Axes | None,
        kwargs: dict[str, Any],
    ) -> Self:
        if len(clean) == 0:
            raise ValueError("X is empty: there is nothing to show.")
        with naming("X"):
            limits = value_range(np.concatenate([clean, triggered]))
        # In the units of X, since rounding to pixels would remove faint differences.
        change = np.abs(triggered.astype(np.float64) - clean.astype(np.float64))
        display = cls(
            clean=to_pixels(clean, layout, limits),
            triggered=to_pixels(triggered, layout, limits),
            difference=to_pixels(change, layout, (0.0, float(change.max()))),
        )
        return display.plot(ax, **kwargs)

    def _figure(self) -> dict[str, Any]:
        return {"figsize": (5, 1.7 * len(self.clean) + 0.3)}

    def _draw(self, ax: Axes, **kwargs: Any) -> None:
        lines = zip(self.clean, self.triggered, self.difference, strict=True)
        images = [image for line in lines for image in line]
        heads = ["clean", "triggered", "difference"] + [""] * (len(images) - 3)
        show_grid(ax, images, heads, 3, **({"vmin": 0, "vmax": 255} | kwargs))
