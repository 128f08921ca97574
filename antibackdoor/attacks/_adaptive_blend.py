"""Adaptive Blend: pieces of a faint pattern in training, the whole pattern at test time."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval

from antibackdoor.attacks._base import COVER_RATIO
from antibackdoor.attacks._blend import Blend
from antibackdoor.attacks._in_float import change_in_float
from antibackdoor.utils import parameters


@parameters
class AdaptiveBlend(Blend):
    """A faint pattern, only pieces of which are put on each training row (Qi et al., 2023).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="adaptive-blend")

    The image is cut into `grid_size` x `grid_size` pieces. In each poisoned training row a random
    share of the pieces is blended with the pattern:

        (1 - training_alpha) * x + training_alpha * pattern.

    By default as many clean rows get such pieces too and keep their label: cover rows. So a piece
    alone does not indicate the target class. Since the pieces differ from row to row, poisoned
    rows do not form a separate cluster in the feature space of a network. At test time a row is
    blended with the whole pattern, at the higher `alpha`.

    Parameters
    ----------
    alpha : float, default=0.2
        Weight of the pattern at test time, above 0 and at most 1.
    training_alpha : float, default=0.15
        Weight of the pattern in training rows, above 0 and at most 1.
    grid_size : int, default=4
        Pieces along each axis; on an axis with fewer pixels, one piece a pixel.
    visible : float, default=0.5
        Share of the pieces that a training row gets, rounded, at least one piece.
    conservatism : float, default=1.0
        Cover rows per poisoned row; 0 for none.
    pattern, random_state, target_label, label_map, value_range, image_shape, layout

    Attributes
    ----------
    pattern_, classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    X. Qi, T. Xie, Y. Li, S. Mahloujifar, P. Mittal. Revisiting the Assumption of Latent
    Separability for Backdoor Defenses. ICLR 2023.

    Examples
    --------
    >>> from antibackdoor import make_poisoned
    >>> from antibackdoor.attacks import AdaptiveBlend
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask, cover_mask = make_poisoned(
    ...     X, y, attack=AdaptiveBlend(alpha=0.3), random_state=0, return_cover=True
    ... )
    >>> bool(poison_mask.sum() == cover_mask.sum())
    True
    """

    training_alpha: float = 0.15
    grid_size: int = 4
    visible: float = 0.5
    conservatism: float = 1.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "training_alpha": [Interval(Real, 0, 1, closed="right")],
        "grid_size": [Interval(Integral, 1, None, closed="left")],
        "visible": [Interval(Real, 0, 1, closed="right")],
        "conservatism": [COVER_RATIO],
    }

    @property
    def cover_ratio(self) -> float:
        """Cover rows per poisoned row: `conservatism`."""
        return float(self.conservatism)

    def _stamp_training(
        self, rows: np.ndarray, y: ArrayLike | None, rng: np.random.RandomState
    ) -> None:
        """Blend some pieces of every row with the pattern."""

        def blend_pieces(values: np.ndarray) -> np.ndarray:
            pattern = self.pattern_.astype(values.dtype, copy=False)
            pixels = self._draw_pixels(len(values), rng)
            shown = self.layout_.to_nchw(values)
            every_channel = np.broadcast_to(pixels[:, np.newaxis], shown.shape)
            weights = self.training_alpha * self.layout_.from_nchw(every_channel)
            values += weights.astype(values.dtype) * (pattern - values)
            return values

        change_in_float(rows, blend_pieces, self.value_range_)

    #: Cover rows differ from poisoned ones only in their label.
    _stamp_cover = _stamp_training

    def _draw_pixels(self, n_rows: int, rng: np.random.RandomState) -> np.ndarray:
        """Draw the pixels of each row to blend: bool (n, H, W)."""
        piece_down, piece_across = (
            np.arange(size) * min(self.grid_size, size) // size
            for size in (self.layout_.height, self.layout_.width)
        )
        down, across = piece_down[-1] + 1, piece_across[-1] + 1
        n_visible = max(1, round(self.visible * down * across))
        rank = rng.uniform(size=(n_rows, down * across)).argsort(axis=1).argsort(axis=1)
        pieces = (rank < n_visible).reshape(n_rows, down, across)
        return pieces[:, piece_down[:, np.newaxis], piece_across]
