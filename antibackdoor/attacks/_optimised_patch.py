"""Base of the attacks with a patch that is optimised against a surrogate."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from antibackdoor.attacks._descent import signed_descent
from antibackdoor.attacks._learned import LearnedAttack
from antibackdoor.attacks._patch import CornerPatch, check_fits
from antibackdoor.utils import Fitted, FittedArray, parameters

#: Clean images a patch is optimised on.
N_IMAGES = 256


@parameters
class OptimisedPatch(CornerPatch, LearnedAttack):
    """Base of the attacks whose trigger is a square with optimised pixels.

    An attack implements `_learn`, which trains the surrogate and sets `pattern_` by `_optimise`.
    For the parameters see the attacks.
    """

    size: int = 4
    steps: int = 100

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "size": [Interval(Integral, 1, None, closed="left")],
        "steps": [Interval(Integral, 1, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "pattern_": FittedArray(
            dtype="float64",
            shape=lambda attack: (
                attack.layout_.channels,
                range(1, attack.layout_.height + 1),
                range(1, attack.layout_.width + 1),
            ),
            low=lambda attack: attack.value_range_[0],
            high=lambda attack: attack.value_range_[1],
        ),
    }

    def _check_before_training(self, X: np.ndarray, y: np.ndarray) -> None:
        check_fits("size", self.size, self.size, self.size, self.layout_)

    def _optimise(
        self, loss: Callable[[torch.Tensor], torch.Tensor], device: torch.device
    ) -> torch.Tensor:
        """Return the square of least loss, (C, size, size), in a network's units."""
        low, high = self._input_range()
        shape = (self.layout_.channels, self.size, self.size)
        return signed_descent(
            loss,
            torch.full(shape, (low + high) / 2, device=device),
            steps=self.steps,
            step_size=self._in_input_units(8),
            low=low,
            high=high,
        )
