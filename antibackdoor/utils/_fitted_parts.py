"""Constraints of what several classes fit: a network, a history, masks and signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from antibackdoor.utils._fitted import (
    Fitted,
    FittedArray,
    FittedDict,
    FittedList,
    FittedNumber,
    FittedText,
    OfModel,
)


@dataclass(frozen=True, kw_only=True)
class FittedNetwork(Fitted):
    """Constraint of the weights of a network of `backbones`, as arrays.

    Names and shapes of the rest are compared when the network is built.

    Parameters
    ----------
    n_outputs, n_channels : callable
        Rows of its head; channels of its input, or columns of a table.

    Examples
    --------
    >>> from antibackdoor.utils import FittedNetwork
    >>> FittedNetwork(n_outputs=lambda model: 2, n_channels=lambda model: 1).fault({}, model=None)[
    ...     :20
    ... ]
    'do not fit a network'
    """

    n_outputs: OfModel
    n_channels: OfModel

    def fault(self, value: Any, model: Any) -> str | None:
        """See `Fitted.fault`."""
        if not isinstance(value, dict) or not all(
            isinstance(array, np.ndarray) for array in value.values()
        ):
            return "are no weights: wanted a dictionary of arrays"
        names = ("head.weight", "standardise.mean", "standardise.scale")
        missing = [name for name in names if name not in value]
        if missing:
            return f"do not fit a network: Missing key(s) {missing}"
        head, mean, scale = (value[name] for name in names)
        if head.dtype not in (np.float32, np.float64):
            return f"do not fit a network: head.weight has dtype {head.dtype}"
        if head.ndim != 2 or len(head) != self.n_outputs(model):
            return (
                f"do not fit: size mismatch for head.weight, which has shape {head.shape}; wanted "
                f"{self.n_outputs(model)} rows"
            )
        # Broadcast over the pixels, another number of them would take any amount of memory.
        wanted = (self.n_channels(model),)
        for name, array in (("mean", mean), ("scale", scale)):
            if array.shape != wanted:
                return (
                    f"do not fit: standardise.{name} has shape {array.shape}; wanted {wanted}, "
                    f"else it fails on a row"
                )
        if not (scale > 0).all():
            return "do not fit: standardise.scale has values that are not positive"
        return None


#: Rows of `history_`: one for each epoch of training.
HISTORY = FittedList(
    item=FittedDict(
        entries={
            "phase": FittedText(),
            "epoch": FittedNumber(kind=int, low=0),
            **{
                name: FittedNumber(kind=float, nan=True)
                for name in ("objective", "loss", "accuracy", "learning_rate", "seconds")
            },
        }
    )
)

#: An entry for each row of the X of `fit`.
MASK_OF_ROWS = FittedArray(dtype="bool", shape=lambda model: model.isolate_scores_.shape)


def signs_of_classes(*names: str) -> FittedDict:
    """Return the constraint of a dictionary of arrays with an entry for each class, or NaN.

    Examples
    --------
    >>> from antibackdoor.utils import signs_of_classes
    >>> sorted(signs_of_classes("size", "silhouette").entries)
    ['silhouette', 'size']
    """
    array = FittedArray(
        required=False, dtype="float64", shape=lambda model: model.classes_.shape, nan=True
    )
    return FittedDict(entries=dict.fromkeys(names, array))
