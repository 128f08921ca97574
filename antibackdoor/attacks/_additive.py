"""Base of the attacks that add a fixed pattern to every row."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from antibackdoor.attacks._base import BaseAttack
from antibackdoor.attacks._in_float import change_in_float
from antibackdoor.utils import Fitted, FittedArray, parameters


@parameters
class AdditivePattern(BaseAttack):
    """Base of the attacks that add a fixed pattern; an attack implements `_make_pattern`."""

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "pattern_": FittedArray(
            dtype="float64",
            shape=lambda attack: attack.input_shape_,
            low=lambda attack: attack.value_range_[0] - attack.value_range_[1],
            high=lambda attack: attack.value_range_[1] - attack.value_range_[0],
        ),
    }

    pattern_: np.ndarray = field(init=False)

    @abstractmethod
    def _make_pattern(self) -> np.ndarray:
        """Return what is added, (C, H, W) in every layout of X, in the units of X."""

    def _fit_trigger(self, X: np.ndarray, y: ArrayLike | None) -> None:
        pattern = self.layout_.from_nchw(self._make_pattern()[np.newaxis])[0]
        self.pattern_ = np.ascontiguousarray(pattern)

    def _stamp(self, rows: np.ndarray) -> None:
        def add(values: np.ndarray) -> np.ndarray:
            values += self.pattern_.astype(values.dtype, copy=False)
            return values

        change_in_float(rows, add, self.value_range_)
