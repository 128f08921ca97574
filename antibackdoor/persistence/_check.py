"""Whether what a file says of a model can be: parameters, shapes, classes, who is flagged."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

from antibackdoor.attacks import BaseAttack
from antibackdoor.detection import Isolation
from antibackdoor.persistence._types import FOLDERS
from antibackdoor.utils import ImageLayout

_OF_A_CLASSIFIER = (
    "_fitted_with",
    "classes_",
    "history_",
    "isolate_",
    "isolate_classes_",
    "isolate_mask_",
    "isolate_scores_",
    "isolate_threshold_",
    "module_weights",
)
_OF_AN_ATTACK = ("_fit_dtype", "layout_", "value_range_")


def check_parameters(kind: Any, state: dict[str, Any]) -> None:
    """Refuse parameters that `fit` would refuse, and what only the user may choose.

    Parameters
    ----------
    kind : type
        Of the model.
    state : dict

    Raises
    ------
    ValueError
        If one is not as `fit` wants it.
    """
    parameters = {name: state[name] for name in kind._get_param_names()}
    for name in FOLDERS:
        if parameters.get(name) is not None:
            raise ValueError(f"it sets {name}={parameters[name]!r}; wanted None, set your own")
    kind(**parameters)._validate_params()
    random_state = parameters.get("random_state")
    if isinstance(random_state, np.random.RandomState):
        # numpy reads on from that place, without asking whether there is one.
        position = random_state.get_state(legacy=False)["state"]["pos"]
        if not 0 <= position <= 624:
            raise ValueError(f"its random_state is at position {position} of 624")


def check_state(kind: type, state: dict[str, Any]) -> None:
    """Refuse attributes of the wrong kind, length or range.

    Parameters
    ----------
    kind : type
        Of the model.
    state : dict

    Raises
    ------
    ValueError
        If one is missing, or is not what `fit` could have left.
    """
    is_attack = issubclass(kind, BaseAttack)
    wanted = ("input_shape_", "n_features_in_", *(_OF_AN_ATTACK if is_attack else _OF_A_CLASSIFIER))
    missing = [name for name in wanted if name not in state]
    if missing:
        raise ValueError(f"its {kind.__name__} lacks {missing}: it is cut, or was not fitted")
    _check_rows(state)
    if "classes_" in state:
        _check_classes(state["classes_"])
    _check_history(state.get("history_", []))
    if is_attack:
        _check_attack(state)
    else:
        _check_fitted_with(state["_fitted_with"])
        _check_isolation(state)


def _check_rows(state: dict[str, Any]) -> None:
    shape, n_features = state["input_shape_"], state["n_features_in_"]
    sizes = shape if isinstance(shape, tuple) else ()
    if not sizes or len(sizes) > 3 or any(type(size) is not int or size < 1 for size in sizes):
        raise ValueError(
            f"its input_shape_ is {str(shape)[:80]}; wanted one to three whole numbers"
        )
    if type(n_features) is not int or n_features != sizes[0]:
        raise ValueError(f"its n_features_in_ is {n_features!r}, for rows of shape {shape}")
    names = state.get("feature_names_in_")
    if names is not None and np.shape(names) != (n_features,):
        raise ValueError(f"its feature_names_in_ are not {n_features}, one for each feature")


def _check_classes(classes: Any) -> None:
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or not len(classes):
        raise ValueError("its classes_ are no array of one axis")
    in_order = classes.tolist() == np.unique(classes).tolist()  # NaN equals nothing
    if not in_order:
        raise ValueError("its classes_ are not sorted, or one is there twice")


def _check_history(history: Any) -> None:
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise ValueError("its history_ is no list of dictionaries")


def _check_fitted_with(fitted: Any) -> None:
    if not isinstance(fitted, dict) or not {"uint8", "backbone", "image_shape", "layout"} <= set(
        fitted
    ):
        raise ValueError("its _fitted_with does not say how the network was built")
    if type(fitted["uint8"]) is not bool:
        raise ValueError("its _fitted_with does not say whether X was uint8")
    if fitted["layout"] not in ("auto", "channels_first", "channels_last"):
        raise ValueError(f"its layout is {str(fitted['layout'])[:40]!r}")


def _check_isolation(state: dict[str, Any]) -> None:
    scores, threshold = state["isolate_scores_"], state["isolate_threshold_"]
    if not isinstance(scores, np.ndarray) or scores.ndim != 1 or scores.dtype != np.float64:
        raise ValueError("its isolate_scores_ are no float64 array of one axis")
    if np.isnan(scores).any():
        raise ValueError("its isolate_scores_ hold NaN")
    if not isinstance(threshold, Real) or math.isnan(threshold):
        raise ValueError(f"its isolate_threshold_ is {str(threshold)[:40]}, wanted a number")
    follows = Isolation(scores, float(threshold))
    for name, array in (("isolate_mask_", follows.mask), ("isolate_", follows.indices)):
        found = state[name]
        if not (
            isinstance(found, np.ndarray)
            and found.dtype == array.dtype
            and np.array_equal(found, array)
        ):
            raise ValueError(
                f"its {name} does not follow from its isolate_scores_ and isolate_threshold_"
            )
    classes = state["isolate_classes_"]
    known = isinstance(classes, np.ndarray) and np.isin(classes, state["classes_"]).all()
    if not known or classes.ndim != 1:
        raise ValueError("its isolate_classes_ are not all among its classes_")
    for name in ("clean_mask_", "credible_mask_"):
        mask = state.get(name, follows.mask)
        if not (isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == scores.shape):
            raise ValueError(f"its {name} is no bool array with an entry for each row")


def _check_attack(state: dict[str, Any]) -> None:
    layout, values = state["layout_"], state["value_range_"]
    if not isinstance(layout, ImageLayout) or not _holds(layout, state["input_shape_"]):
        raise ValueError("its layout_ is not that of a row of its input_shape_")
    if not (
        isinstance(values, tuple)
        and len(values) == 2
        and all(isinstance(value, Real) and math.isfinite(value) for value in values)
        and values[0] <= values[1]
    ):
        raise ValueError(f"its value_range_ is {str(values)[:80]}; wanted two numbers, in order")
    if state["_fit_dtype"] not in [np.dtype(code).name for code in "?bBhHiIlLqQefdg"]:
        raise ValueError(f"it was fitted on values of type {str(state['_fit_dtype'])[:40]!r}")


def _holds(layout: ImageLayout, input_shape: tuple[int, ...]) -> bool:
    fields = vars(layout)
    if set(fields) != set(ImageLayout.__dataclass_fields__):
        return False
    size = [fields[name] for name in ("channels", "height", "width")]
    return (
        layout.input_shape == input_shape
        and layout.channels_axis in ("none", "first", "last")
        and all(type(value) is int and value > 0 for value in size)
        and math.prod(size) == math.prod(input_shape)
    )
