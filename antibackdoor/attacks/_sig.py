"""SIG: a faint sine wave across the image."""

from __future__ import annotations

from dataclasses import field
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from antibackdoor.attacks._additive import AdditivePattern
from antibackdoor.utils import parameters


@parameters
class SIG(AdditivePattern):
    """A faint horizontal sine wave, as a clean-label attack (Barni et al., 2019).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="sig")

    Only rows of the target class are poisoned, and they keep their labels. The wave
    ``v(i, j) = delta * sin(2 * pi * j * frequency / W)`` is added in every channel, for column j
    of W, counted from 0. If ``2 * frequency / W`` is a whole number, the wave is 0 at every pixel:
    take another frequency then.

    Parameters
    ----------
    delta : float, default=20
        Amplitude of the wave in 255ths of the width of `value_range_`, above 0 and at most 255.
    frequency : float, default=6
        Number of waves across the image.
    target_label : int, float, bool or str, default=0
        Class whose rows are poisoned, and that the network shall predict for triggered rows.
    value_range, image_shape, layout

    Attributes
    ----------
    pattern_ : ndarray of float64, shape `input_shape_`
        What is added to a row, in the units of X.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    M. Barni, K. Kallas, B. Tondi. A New Backdoor Attack in CNNs by Training Set
    Corruption Without Label Poisoning. ICIP 2019. arXiv:1902.11237.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.attacks import SIG
    >>> X = np.full((1, 8), 100, dtype=np.uint8)
    >>> SIG(delta=20, frequency=2).fit_transform(X)
    array([[100, 120, 100,  80, 100, 120, 100,  80]], dtype=uint8)
    """

    delta: float = 20
    frequency: float = 6

    clean_label: ClassVar[bool] = True
    #: Not a parameter: a clean-label attack has one target.
    label_map: str = field(init=False, default="all_to_one")

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "delta": [Interval(Real, 0, 255, closed="right")],
        "frequency": [Interval(Real, 0, None, closed="neither")],
    }

    def _make_pattern(self) -> np.ndarray:
        low, high = self.value_range_
        columns = np.arange(self.layout_.width)
        wave = np.sin(2 * np.pi * columns * self.frequency / self.layout_.width)
        wave *= self.delta / 255 * (high - low)
        return np.broadcast_to(wave, self.layout_.chw)
