"""Blend: a faint pattern over the whole image."""

from __future__ import annotations

from dataclasses import field
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval

from antibackdoor.attacks._base import BaseAttack
from antibackdoor.attacks._in_float import change_in_float
from antibackdoor.attacks._value_range import check_inside
from antibackdoor.utils import Fitted, FittedArray, parameters


@parameters
class Blend(BaseAttack):
    """A faint fixed pattern blended into the whole image (Chen et al., 2017).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack=Blend(alpha=0.1))

    A triggered image is ``(1 - alpha) * x + alpha * pattern``.

    Parameters
    ----------
    alpha : float, default=0.2
        Weight of the pattern, above 0 and at most 1. The paper poisons with 0.2.
    pattern : array-like of shape (n_features,), (H, W), (H, W, C) or (C, H, W), default=None
        The pattern, in the units of X: shaped as one row, folded or not, or as (H, W) for
        the same in every channel. None: uniform noise over `value_range_`.
    random_state : int, RandomState instance or None, default=0
        Seed of the noise. A seed, and not None, by default: the
        trigger at test time has to be the trigger of training.
    target_label, label_map, value_range, image_shape, layout

    Attributes
    ----------
    pattern_ : ndarray of float64, shape `input_shape_`
        The pattern, in the units of X.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    X. Chen, C. Liu, B. Li, K. Lu, D. Song. Targeted Backdoor Attacks on Deep
    Learning Systems Using Data Poisoning. 2017. arXiv:1712.05526.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.attacks import Blend
    >>> X = np.full((1, 1, 2), 100, dtype=np.uint8)
    >>> Blend(alpha=0.5, pattern=[[0, 200]]).fit_transform(X)
    array([[[ 50, 150]]], dtype=uint8)
    """

    alpha: float = 0.2
    pattern: ArrayLike | None = None
    random_state: int | np.random.RandomState | None = 0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": [Interval(Real, 0, 1, closed="right")],
        "pattern": [None, "array-like"],
        "random_state": ["random_state"],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "pattern_": FittedArray(dtype="float64", shape=lambda attack: attack.input_shape_),
    }

    pattern_: np.ndarray = field(init=False)

    def _fit_trigger(self, X: np.ndarray, y: ArrayLike | None) -> None:
        if self.pattern is not None:
            self.pattern_ = self._check_pattern()
            return
        low, high = self.value_range_
        # Drawn with channels first, so that the trigger is the same for every layout of X.
        noise = check_random_state(self.random_state).uniform(low, high, size=self.layout_.chw)
        self.pattern_ = np.ascontiguousarray(self.layout_.from_nchw(noise[np.newaxis])[0])

    def _check_pattern(self) -> np.ndarray:
        pattern = check_array(
            self.pattern, dtype=np.float64, ensure_2d=False, allow_nd=True, input_name="pattern"
        )
        # A pattern in other units than the rows would turn them black or white.
        check_inside(
            pattern, self.value_range_, self._range_is_seen(), type(self).__name__, "pattern"
        )
        layout = self.layout_
        if pattern.shape in (self.input_shape_, layout.folded_shape):
            return pattern.reshape(self.input_shape_).copy()
        if pattern.shape == (layout.height, layout.width):
            every_channel = np.broadcast_to(pattern, layout.chw)
            return np.ascontiguousarray(layout.from_nchw(every_channel[np.newaxis])[0])
        raise ValueError(
            f"pattern has shape {pattern.shape}; wanted {layout.folded_shape}, the shape of one "
            f"image, or {(layout.height, layout.width)} for the same in every channel."
        )

    def _stamp(self, rows: np.ndarray) -> None:
        keep, pattern = 1.0 - self.alpha, self.alpha * self.pattern_

        def blend(values: np.ndarray) -> np.ndarray:
            values *= keep
            values += pattern.astype(values.dtype, copy=False)
            return values

        change_in_float(rows, blend, self.value_range_)
