"""Building a model, with its networks, from its state."""

from __future__ import annotations

import math
import re
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from antibackdoor.attacks import BaseAttack
from antibackdoor.backbones import Backbone, Network
from antibackdoor.backbones._state import to_arrays
from antibackdoor.detection import BaseDetector
from antibackdoor.persistence._backbone import put_back_own
from antibackdoor.persistence._budget import BYTES_OF_AN_ARRAY, CountedMemory, check_budget
from antibackdoor.persistence._check import check_parameters, check_state
from antibackdoor.persistence._messages import without_stop

#: What makes tensors of any size: weights, buffers and the example that a network is tried with.
_FILLED = {torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}

#: What is made of one row takes this many bytes for each of its values, or less, beside a
#: network. Most is WaNet's: the weights of four pixels, and where they are.
_BYTES_A_VALUE = 256

#: A row takes this many beside the network that it goes through: as floats, clipped, and back.
_BYTES_A_VALUE_BESIDE = 64

#: Arrays of a network that is torn down and built up while it is made, for each that it has.
_TRIES = 4
_FEW_ARRAYS = 100


def build_model(
    kind: type, state: dict[str, Any], backbone: Backbone | None, max_bytes: int
) -> Any:
    """Build a model from its state, after everything that the build uses has been checked.

    Parameters
    ----------
    kind : type
        Of the model.
    state : dict
        From `read_state`; changed.
    backbone : torch.nn.Module, callable or None
        The user's own network, where the state says that there was one.
    max_bytes : int
        Memory that building the model may take, beside what the state takes.

    Raises
    ------
    ValueError
        If anything in the state does not fit the rest.
    """
    put_back_own(state, backbone)
    check_parameters(kind, state)
    check_state(kind, state)
    if issubclass(kind, BaseDetector):  # has no network, and is not asked about rows
        return _with_state(kind, state)
    weights = _weights_of(kind, state)
    # A network of the user's cannot be built without memory, and is not the file's to choose:
    # the size of its input is, so what it takes is counted as it is taken.
    given = backbone is not None and _fitted_backbone(state) is backbone
    _check_finite(weights, own=given)
    _check_size(state, sum(map(len, weights.values())), max_bytes)
    own = given and any(map(_is_network, weights.values()))
    if not own:
        _rehearse(kind, state, weights, max_bytes)
    with CountedMemory(limit=max_bytes) if own else nullcontext():
        model = _with_state(kind, state)
        _check_weights(model, weights)
        _try_out(model)
    return model


def _weights_of(kind: type, state: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of each network of the model, by the attribute that has it."""
    names: dict[str, str] = {"module_": "module_weights"}
    if issubclass(kind, BaseAttack):
        names = {name: name for name in getattr(kind, "_modules", ())}
    weights = {}
    for attribute, key in names.items():
        arrays = state.get(key)
        if not isinstance(arrays, dict) or not all(
            isinstance(array, np.ndarray) for array in arrays.values()
        ):
            raise ValueError(f"its {key} are no weights: wanted a dictionary of arrays")
        weights[attribute] = arrays
    return weights


def _check_finite(weights: dict[str, dict[str, np.ndarray]], *, own: bool) -> None:
    for attribute, arrays in weights.items():
        for name, array in arrays.items():
            if array.dtype.kind not in "fiub" or not array.dtype.isnative:
                raise ValueError(f"the weights {name} of {attribute} have dtype {array.dtype}")
            # A mask in a network of the user's may be infinite where it closes.
            bad = np.isnan(array) if own else ~np.isfinite(array)
            if bad.any():
                raise ValueError(
                    f"the weights {name} of {attribute} hold {bad.sum()} values that are NaN or "
                    f"infinite"
                )


def _check_size(state: dict[str, Any], n_arrays: int, max_bytes: int) -> None:
    """Refuse a model that would need more memory or time to build than its weights suggest."""
    n_bytes = _BYTES_A_VALUE * math.prod(state["input_shape_"])
    check_budget(f"one row of its shape {state['input_shape_']} takes", n_bytes, max_bytes)
    fitted = _fitted_backbone(state)
    deep = re.fullmatch(r"wrn-([0-9]+)-[0-9]+", fitted) if isinstance(fitted, str) else None
    if deep and (len(deep[1]) > 6 or int(deep[1]) > n_arrays):
        raise ValueError(f"its backbone is {fitted[:60]!r}, and it holds {n_arrays} arrays only")
    n_networks = state.get("_fitted_n_surrogates", 0)
    if type(n_networks) is not int or not 0 <= n_networks <= n_arrays:
        raise ValueError(f"it says that it has {str(n_networks)[:40]} networks")


def _fitted_backbone(state: dict[str, Any]) -> Any:
    """Return the backbone of the networks of the model; None where it has none."""
    return state.get("_fitted_with", {}).get("backbone", state.get("_fitted_surrogate"))


def _is_network(arrays: dict[str, np.ndarray]) -> bool:
    return any(name.endswith("head.weight") for name in arrays)


def _rehearse(
    kind: type, state: dict[str, Any], weights: dict[str, dict[str, np.ndarray]], max_bytes: int
) -> None:
    """Build and run the model on the meta device, to check that it fits and its memory."""
    arrays = [array for named in weights.values() for array in named.values()]
    with (
        CountedMemory() as counted,
        _WithoutMemory(most=_TRIES * len(arrays) + _FEW_ARRAYS),
    ):
        model = _with_state(kind, state)
        _try_modules(model)
    # The arrays of the file, and the tensors that are made of them for the network to copy.
    n_bytes = counted.peak + 2 * sum(array.nbytes for array in arrays)
    n_bytes += BYTES_OF_AN_ARRAY * len(arrays)
    n_bytes += _BYTES_A_VALUE_BESIDE * math.prod(state["input_shape_"])
    check_budget(
        f"its network takes, for rows of shape {state['input_shape_']},", n_bytes, max_bytes
    )


@torch.no_grad()
def _try_modules(model: Any) -> None:
    """Run the modules of an attack on one image; networks run on two when they are built."""
    for name in getattr(model, "_modules", ()):
        module = getattr(model, name)
        if not isinstance(module, Network | nn.ModuleList):
            first = next(part for part in module.modules() if isinstance(part, nn.Conv2d))
            module(torch.zeros(1, first.in_channels, *model.layout_.chw[1:]))


class _WithoutMemory(TorchFunctionMode):
    """Create new tensors on torch's meta device inside the block: with shapes, without values.

    ``with torch.device("meta")`` would take ranges too, from whose values torchvision
    computes the widths of its regnets. Where the two meet, the range goes over.

    Parameters
    ----------
    most : int, default=None
        New tensors that there may be: each takes some kB even so.
    """

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self.most = most
        self._n_made = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FILLED and kwargs.get("device") is None:
            kwargs["device"] = "meta"
            self._n_made += 1
            if self.most is not None and self._n_made > self.most:
                raise RuntimeError("its weights do not fit: the network has more arrays")
        if any(torch.is_tensor(value) and value.is_meta for value in args):
            args = [value.to("meta") if torch.is_tensor(value) else value for value in args]
        return func(*args, **kwargs)


def _with_state(kind: Any, state: dict[str, Any]) -> Any:
    model = kind.__new__(kind)
    try:
        model.__setstate__(dict(state))
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"its weights do not fit the network of this {kind.__name__}: {without_stop(error)}"
        ) from error
    return model


def _check_weights(model: Any, weights: dict[str, dict[str, np.ndarray]]) -> None:
    # torch has compared names and shapes, and turned any dtype into its own.
    for attribute, arrays in weights.items():
        for name, array in to_arrays(getattr(model, attribute)).items():
            if array.dtype != arrays[name].dtype:
                raise ValueError(
                    f"the weights {name} of {attribute} have dtype {arrays[name].dtype}, "
                    f"wanted {array.dtype}"
                )


def _try_out(model: Any) -> None:
    """Run the model on one row: its other attributes must fit its input too."""
    is_attack = isinstance(model, BaseAttack)
    dtype = model._fit_dtype if is_attack else "u1" if model._fitted_with["uint8"] else "f8"
    row = np.full((1, *model.input_shape_), model.value_range_[0] if is_attack else 0).astype(dtype)
    try:
        # One row of nothing may well lie outside of what the network can be asked.
        with np.errstate(all="ignore"):
            answer = model.transform(row) if is_attack else model.predict_proba(row)
    except Exception as error:
        raise ValueError(
            f"its {type(model).__name__} fails on a row of shape {model.input_shape_}: "
            f"{without_stop(error)}"
        ) from error
    wanted = row.shape if is_attack else (1, len(model.classes_))
    if answer.shape != wanted:
        raise ValueError(f"its {type(model).__name__} makes {answer.shape} of {row.shape}")
