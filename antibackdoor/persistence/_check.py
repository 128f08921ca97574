"""Whether what a file says of a model can be: parameters, shapes, classes, who is flagged.

It is asked of plain values and arrays, whatever kind of file they came from, before any of them
becomes a shape, an index or an argument of what is compiled. What one class alone keeps is listed
there, in its `_fitted_constraints`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from antibackdoor.attacks import BaseAttack, LearnedAttack, OneToMany, OneToOne
from antibackdoor.detection import BaseDetector, Isolation
from antibackdoor.persistence._types import FOLDER, PARTS
from antibackdoor.utils import HISTORY, Fitted, FittedNetwork, ImageLayout, resolve_layout

_OF_BOTH = ("input_shape_", "n_features_in_")
_OF_A_DETECTOR = (
    "classes_",
    "history_",
    "isolate_",
    "isolate_classes_",
    "isolate_mask_",
    "isolate_scores_",
    "isolate_threshold_",
)
_OF_A_CLASSIFIER = (*_OF_A_DETECTOR, "_fitted_with", "module_weights")
_OF_AN_ATTACK = ("_fit_dtype", "layout_", "value_range_")
_OF_FITTED_WITH = {"uint8", "backbone", "image_shape", "layout"}
#: What a fit leaves only where X has names of columns, or an attack is given labels.
_OF_SOME = ("feature_names_in_", "classes_")

#: The network of a classifier.
_MODULE = FittedNetwork(
    n_outputs=lambda model: len(model.classes_), n_channels=lambda model: _n_channels(model)
)

#: A row has no axis longer than this: it is more than numpy can make, and no product overflows.
_LONGEST_AXIS = 2**40


def check_parameters(kind: Any, state: dict[str, Any]) -> None:
    """Refuse parameters that `fit` would refuse, and those that only the user may set.

    Parameters
    ----------
    kind : type
        Of the model, or of a detector or a cure in it.

    Raises
    ------
    ValueError
        If one is not as `fit` wants it.
    """
    parameters = {name: state[name] for name in kind._get_param_names()}
    if parameters.get(FOLDER) is not None:
        raise ValueError(f"it sets {FOLDER}={parameters[FOLDER]!r}; wanted None, set your own")
    kind(**parameters)._validate_params()
    for value in parameters.values():
        if type(value) in PARTS.values():
            check_parameters(type(value), vars(value))
    random_state = parameters.get("random_state")
    if isinstance(random_state, np.random.RandomState):
        # numpy reads on from that place, without asking whether there is one.
        position = random_state.get_state(legacy=False)["state"]["pos"]
        if not 0 <= position <= 624:
            raise ValueError(f"its random_state is at position {position} of 624")
    _check_label_map(parameters.get("label_map"))


def _check_label_map(label_map: Any) -> None:
    """Refuse a label map whose fields were not set by its constructor."""
    if not isinstance(label_map, OneToOne | OneToMany):
        return
    fields = [field.name for field in dataclasses.fields(label_map)]
    if sorted(vars(label_map)) != sorted(fields):
        raise ValueError(f"its label_map has the fields {sorted(vars(label_map))}")
    targets = getattr(label_map, "target_labels", None)
    if targets is not None and not isinstance(targets, list | tuple | np.ndarray):
        raise ValueError(f"the target_labels of its label_map are {str(targets)[:40]!r}")
    for label in [label_map.source_label, *(() if targets is None else targets)]:
        if not isinstance(label, str | int | float | np.generic):
            raise ValueError(f"its label_map has a label that is a {type(label).__name__}")


def check_state(kind: Any, state: dict[str, Any]) -> None:
    """Refuse attributes of the wrong kind, length or range.

    Parameters
    ----------
    kind : type
        Of the model.

    Raises
    ------
    ValueError
        If one is missing, or is not what `fit` could have left.
    """
    is_attack, is_detector = issubclass(kind, BaseAttack), issubclass(kind, BaseDetector)
    of_all = _OF_AN_ATTACK if is_attack else _OF_A_DETECTOR if is_detector else _OF_A_CLASSIFIER
    _check_names(kind, state, of_all)
    _check_rows(state)
    if "classes_" in state:
        _check_classes(state["classes_"])
    if is_attack:
        _check_attack(state)
    else:
        _check_constraints({"history_": HISTORY}, state)
        if not is_detector:
            _check_fitted_with(state)
            _check_constraints({"module_weights": _MODULE}, state)
        _check_isolation(state)
    _check_constraints(kind._fitted_constraints, state)


def _check_names(kind: Any, state: dict[str, Any], shared: tuple[str, ...]) -> None:
    """Refuse a state with missing or unknown attributes."""
    own = {
        *(name for name, constraint in kind._fitted_constraints.items() if constraint.required),
        *getattr(kind, "_modules", ()),
    }
    if issubclass(kind, LearnedAttack):
        own |= {"_fitted_surrogate", "classes_"}
    missing = [name for name in (*_OF_BOTH, *shared, *sorted(own)) if name not in state]
    if missing:
        raise ValueError(f"its {kind.__name__} lacks {missing}: it is cut, or was not fitted")
    known = {
        *kind._get_param_names(),
        *(*_OF_BOTH, *_OF_SOME, *shared),
        *(*own, *kind._fitted_constraints),
    }
    unknown = sorted(set(state) - known)
    if unknown:
        raise ValueError(
            f"it sets the attribute {unknown[0][:80]!r}, which no fitted {kind.__name__} has"
        )


def _check_constraints(own: Mapping[str, Fitted], state: dict[str, Any]) -> None:
    """Check the attributes that are listed, with the parameters and the checked ones."""
    model = SimpleNamespace(**{name: value for name, value in state.items() if name not in own})
    for name, constraint in own.items():
        if name in state:
            fault = constraint.fault(state[name], model)
            if fault is not None:
                raise ValueError(f"its {name} {fault}")
            setattr(model, name, state[name])


def _check_rows(state: dict[str, Any]) -> None:
    shape, n_features = state["input_shape_"], state["n_features_in_"]
    sizes = shape if isinstance(shape, tuple) else ()
    if (
        not sizes
        or len(sizes) > 3
        or any(type(size) is not int or not 1 <= size <= _LONGEST_AXIS for size in sizes)
    ):
        raise ValueError(
            f"its input_shape_ is {str(shape)[:80]}; wanted one to three whole numbers"
        )
    if type(n_features) is not int or n_features != sizes[0]:
        raise ValueError(f"its n_features_in_ is {str(n_features)[:40]}, for rows of shape {shape}")
    if "feature_names_in_" not in state:
        return
    names = state["feature_names_in_"]
    if (
        not isinstance(names, np.ndarray)
        or names.shape != (n_features,)
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(f"its feature_names_in_ are not {n_features} texts, one for each feature")


def _check_classes(classes: Any) -> None:
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or not len(classes):
        raise ValueError("its classes_ are no array of one axis")
    if classes.dtype == object and not all(type(label) is str for label in classes):
        raise ValueError("its classes_ are objects that are no text")
    # NaN is in no order. Neighbour by neighbour: a list of them would take twenty times as much.
    if not ((classes[:-1] < classes[1:]).all() and (classes[-1:] == classes[-1:]).all()):
        raise ValueError("its classes_ are not sorted, or one is there twice")


def _check_fitted_with(state: dict[str, Any]) -> None:
    fitted = state["_fitted_with"]
    if not isinstance(fitted, dict) or set(fitted) != _OF_FITTED_WITH:
        raise ValueError("its _fitted_with does not say how the network was built")
    if type(fitted["uint8"]) is not bool:
        raise ValueError("its _fitted_with does not say whether X was uint8")
    if fitted["backbone"] is None or isinstance(fitted["backbone"], np.ndarray | list | dict):
        raise ValueError(f"it was fitted with backbone={str(fitted['backbone'])[:40]}")
    layouts = ("auto", "channels_first", "channels_last")
    if not isinstance(fitted["layout"], str) or fitted["layout"] not in layouts:
        raise ValueError(f"its layout is {str(fitted['layout'])[:40]!r}")
    try:
        _fitted_layout(state)
    except TypeError as error:
        raise ValueError(f"its _fitted_with does not hold a shape of images: {error}") from error


def _fitted_layout(state: dict[str, Any]) -> ImageLayout | None:
    fitted = state["_fitted_with"]
    return resolve_layout(state["input_shape_"], fitted["image_shape"], fitted["layout"])


def _n_channels(model: Any) -> int:
    layout = _fitted_layout(vars(model))
    return model.n_features_in_ if layout is None else layout.channels


def _check_isolation(state: dict[str, Any]) -> None:
    scores, threshold = state["isolate_scores_"], state["isolate_threshold_"]
    if not isinstance(scores, np.ndarray) or scores.ndim != 1 or scores.dtype != np.float64:
        raise ValueError("its isolate_scores_ are no float64 array of one axis")
    if np.isnan(scores).any():
        raise ValueError("its isolate_scores_ hold NaN")
    if not isinstance(threshold, float) or math.isnan(threshold):
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


def _check_attack(state: dict[str, Any]) -> None:
    layout, values = state["layout_"], state["value_range_"]
    if type(layout) is not ImageLayout or not _holds(layout, state["input_shape_"]):
        raise ValueError("its layout_ is not that of a row of its input_shape_")
    if not (
        isinstance(values, tuple)
        and len(values) == 2
        and all(isinstance(value, float) and math.isfinite(value) for value in values)
        and values[0] <= values[1]
    ):
        raise ValueError(f"its value_range_ is {str(values)[:80]}; wanted two numbers, in order")
    fit_dtype = state["_fit_dtype"]
    if not isinstance(fit_dtype, str) or fit_dtype not in [
        np.dtype(code).name for code in "?bBhHiIlLqQefdg"
    ]:
        raise ValueError(f"it was fitted on values of type {str(fit_dtype)[:40]!r}")


def _holds(layout: ImageLayout, input_shape: tuple[int, ...]) -> bool:
    fields = vars(layout)
    if set(fields) != set(ImageLayout.__dataclass_fields__):
        return False
    size = [fields[name] for name in ("channels", "height", "width")]
    return (
        layout.input_shape == input_shape
        and layout.channels_axis in ("none", "first", "last")
        and type(layout.input_shape) is tuple
        and all(type(value) is int and value > 0 for value in size)
        and math.prod(size) == math.prod(input_shape)
        and (len(input_shape) == 1 or layout.folded_shape == input_shape)
        and (layout.channels_axis != "none" or layout.channels == 1)
    )
