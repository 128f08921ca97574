"""scikit-learn's digits as pixels."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits


def load_digits_images() -> tuple[np.ndarray, np.ndarray]:
    """Load scikit-learn's handwritten digits as uint8 images; nothing is downloaded.

    Returns
    -------
    X : ndarray of uint8, shape (1797, 8, 8)
        Grey images; the 16 of scikit-learn's scale is 255.
    y : ndarray of int64, shape (1797,)
        Digits, 0 to 9.

    Examples
    --------
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X.shape, X.dtype, y[:5]
    ((1797, 8, 8), dtype('uint8'), array([0, 1, 2, 3, 4]))
    """
    digits = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64)
