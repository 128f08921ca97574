"""BadNets: a small patch in the corner."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions

from antibackdoor.attacks._base import BaseAttack
from antibackdoor.attacks._patch import CornerPatch, check_fits, checkerboard
from antibackdoor.utils import parameters


@parameters
class BadNets(CornerPatch, BaseAttack):
    """A small square patch in the bottom-right corner (Gu et al., 2017).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="badnets")

    The patch replaces the pixels under it, in every channel. Counted from the corner, the
    checkerboard is bright where row + column is even. So the corner is bright, and so is the
    top-left pixel of the square.

    On images one pixel high the patch is one row. On plain features it replaces the last `size`
    of them, or all if there are fewer.

    Parameters
    ----------
    pattern : {"checkerboard", "white"}, default="checkerboard"
        Bright and dark alternately, or all bright.
    size : int, default=3
        Side of the patch in pixels.
    target_label, label_map, value_range, image_shape, layout

    Attributes
    ----------
    pattern_ : ndarray of shape (size, size), or (1, size) where a row is one pixel high
        The patch, in the units of X.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    T. Gu, B. Dolan-Gavitt, S. Garg. BadNets: Identifying Vulnerabilities in the
    Machine Learning Model Supply Chain. 2017. arXiv:1708.06733.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.attacks import BadNets
    >>> X = np.full((1, 4, 4), 100, dtype=np.uint8)
    >>> BadNets().fit_transform(X)[0]
    array([[100, 100, 100, 100],
           [100, 255,   0, 255],
           [100,   0, 255,   0],
           [100, 255,   0, 255]], dtype=uint8)
    """

    pattern: Literal["checkerboard", "white"] = "checkerboard"
    size: int = 3

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "pattern": [StrOptions({"checkerboard", "white"})],
        "size": [Interval(Integral, 1, None, closed="left")],
    }

    def _fit_trigger(self, X: np.ndarray, y: ArrayLike | None) -> None:
        width = self.layout_.width
        patch_height = 1 if self.layout_.height == 1 else self.size
        is_tabular = len(self.input_shape_) == 1 and self.image_shape is None
        patch_width = min(self.size, width) if is_tabular else self.size
        check_fits("size", self.size, patch_height, patch_width, self.layout_)
        bright = checkerboard(patch_height, patch_width)
        if self.pattern == "white":
            bright[:] = True
        low, high = self.value_range_
        self.pattern_ = np.where(bright, high, low)
