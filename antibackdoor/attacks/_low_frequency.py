"""A smooth additive pattern without high frequencies."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.fft import idctn
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from antibackdoor.attacks._additive import AdditivePattern
from antibackdoor.utils import parameters


@parameters
class LowFrequency(AdditivePattern):
    """A fixed smooth pattern added to the whole image, after Zeng et al. (2021).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="lf")

    In every channel the pattern is a sum of the lowest cosines of the two-dimensional DCT: u half
    waves down and v across, for u and v from 0 to `n_frequencies` - 1, the constant included. The
    coefficients are drawn from a normal distribution. The largest absolute value is `delta`.

    The paper shows that other triggers leave traces at high frequencies, by which they can be
    detected. It finds a smooth trigger by optimisation against a trained network, under a
    low-pass filter. Here nothing is trained: the pattern is drawn.

    Parameters
    ----------
    delta : float, default=30
        Largest absolute value of the pattern, in each channel, in 255ths of the width of
        `value_range_`, above 0 and at most 255.
    n_frequencies : int, default=4
        Cosines along each axis; on an axis with fewer pixels, as many as pixels.
    random_state : int, RandomState instance or None, default=0
        Seed of the coefficients. A seed, and not None, by default: the
        trigger at test time has to be the trigger of training.
    target_label, label_map, value_range, image_shape, layout

    Attributes
    ----------
    pattern_ : ndarray of float64, shape `input_shape_`
        The pattern that is added to a row, in the units of X.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    Y. Zeng, W. Park, Z. M. Mao, R. Jia. Rethinking the Backdoor Attacks' Triggers:
    A Frequency Perspective. ICCV 2021. arXiv:2104.03413.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.attacks import LowFrequency
    >>> X = np.full((1, 8), 100, dtype=np.uint8)
    >>> LowFrequency(n_frequencies=2, random_state=1).fit_transform(X)
    array([[109, 111, 114, 118, 122, 126, 128, 130]], dtype=uint8)
    """

    delta: float = 30
    n_frequencies: int = 4
    random_state: int | np.random.RandomState | None = 0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "delta": [Interval(Real, 0, 255, closed="right")],
        "n_frequencies": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _make_pattern(self) -> np.ndarray:
        low, high = self.value_range_
        coefficients = np.zeros(self.layout_.chw)
        lowest = coefficients[:, : self.n_frequencies, : self.n_frequencies]
        lowest[:] = check_random_state(self.random_state).standard_normal(lowest.shape)
        waves = idctn(coefficients, axes=(1, 2), norm="ortho")
        return waves * (
            self.delta / 255 * (high - low) / np.abs(waves).max(axis=(1, 2), keepdims=True)
        )
