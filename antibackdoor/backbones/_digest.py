"""A digest of what a network is: its layers, its weights, its code and what it does."""

from __future__ import annotations

import copy
import functools
import hashlib
import types
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from antibackdoor.backbones._network import Network
from antibackdoor.utils import seeded_torch

# Spreads of the rows that a network is asked about: a bound that it sets on its values, such as
# that of a ReLU6, shows in large ones only.
_SPREADS = (0.1, 1.0, 10.0, 100.0)

# Packages whose code is told by their versions.
_KNOWN = ("antibackdoor", "builtins", "torch", "torchvision")


def digest_network(network: Network, input_shape: tuple[int, ...]) -> str:
    """Return a SHA-256 of a network: of everything that its training depends on.

    It covers the definition (layers, weights, buffers, hooks, code and attributes) and the
    behaviour: outputs and gradients on fixed rows, in training and in evaluation mode. So two
    networks that print alike but compute different values differ. Draws from torch's generators
    are fixed. If a network draws from another generator, such as numpy's, only its definition
    counts.

    Parameters
    ----------
    network : Network
        It is not changed, nor are torch's generators.
    input_shape : tuple of int
        Shape of a row.

    Returns
    -------
    str

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.backbones import build_network, digest_network
    >>> network = build_network("mlp", (4,), 3, mean=torch.zeros(4), scale=torch.ones(4))
    >>> digest_network(network, (4,)) == digest_network(network, (4,))
    True
    """
    digest = hashlib.sha256()
    for part in (*_written_down(network), *_done(network, input_shape)):
        digest.update(f"{len(part)}:".encode() + part)
    return digest.hexdigest()


def _written_down(network: nn.Module) -> Iterator[bytes]:
    yield str(network).encode()
    # Also of buffers that are not in the state.
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, tensor in {**network.state_dict(), **named}.items():
        yield f"{name} {tensor.requires_grad}".encode()
        yield _digest_tensor(tensor)
    for name, module in network.named_modules():
        yield repr((name, *_describe_module(module))).encode()


def _digest_tensor(tensor: torch.Tensor) -> bytes:
    dense = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{dense.dtype} {tuple(dense.shape)}".encode())
    if dense.numel():
        digest.update(dense.reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()


# ------------------------------------------------------------- what it does


def _done(network: Network, input_shape: tuple[int, ...]) -> list[bytes]:
    """Return digests of what the network gives, none where that is not the same each time."""
    first, again = (_ask(network, input_shape) for _ in range(2))
    return first if first == again else []


def _ask(network: Network, input_shape: tuple[int, ...]) -> list[bytes]:
    generator = torch.Generator().manual_seed(0)
    dtype, n_classes = network.head.weight.dtype, network.head.out_features
    rows = torch.randn(len(_SPREADS), *input_shape, generator=generator).to(dtype)
    rows *= torch.tensor(_SPREADS, dtype=dtype).view(-1, *(1,) * len(input_shape))
    rows.requires_grad_()
    errors = torch.randn(len(rows), n_classes, generator=generator).to(dtype)
    said: list[torch.Tensor] = []
    try:
        # On the CPU, where the same question has the same answer; a copy, whose averages may move.
        asked = copy.deepcopy(network).cpu()
        with seeded_torch(0, torch.device("cpu")):
            with torch.no_grad():
                said.append(asked.eval()(rows * 1))
            said.append(asked.train()(rows * 1))  # a product may be changed in place, rows not
            if said[-1].requires_grad:
                said[-1].backward(errors)
        said += [torch.empty(0) if t.grad is None else t.grad for t in (rows, *asked.parameters())]
        said += asked.buffers()
    except Exception as error:
        # These rows may be none that it takes. Those of the fit will show whether it works.
        return [*map(_digest_tensor, said), type(error).__name__.encode()]
    return [_digest_tensor(tensor) for tensor in said]


# ------------------------------------------------------------- what is written in Python


def _describe_module(module: nn.Module) -> Iterable[Any]:
    """Describe the code and the plain attributes of a module, not of those inside."""
    for name, value in sorted(vars(module).items()):
        # Hooks are kept in dicts of numbers that count on in a process.
        if name.endswith("_hooks"):
            yield name, [_describe(hook) for hook in dict(value or {}).values()]
        elif not name.startswith("_") and name != "training":
            yield name, _describe(value)
    yield _describe(type(module))


def _describe(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Describe a value by what is the same in every process: no address, no order of a set."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return type(value).__name__, repr(value)
    if id(value) in above:
        return "one of those around it"
    inner = functools.partial(_describe, above=(*above, id(value)))
    match value:
        case list() | tuple():
            return type(value).__name__, [inner(item) for item in value]
        case set() | frozenset():
            return "set", sorted(repr(inner(item)) for item in value)
        case dict():
            return "dict", [(inner(key), inner(item)) for key, item in value.items()]
        case torch.Tensor():
            return "tensor", _digest_tensor(value)
        case np.ndarray() | np.generic():
            return str(value.dtype), value.shape, inner(value.tolist())
        case torch.dtype() | torch.device():
            return repr(value)
        case functools.partial():
            return "partial", inner(value.func), inner(value.args), inner(value.keywords)
        case types.MethodType() | staticmethod() | classmethod():
            return type(value).__name__, inner(value.__func__)
        case property():
            return "property", inner(value.fget)
        case types.BuiltinFunctionType():
            return value.__qualname__
        case types.FunctionType():
            return _describe_function(value, inner)
        case types.CodeType():
            constants = [inner(constant) for constant in value.co_consts]
            return value.co_code, value.co_names, value.co_varnames, constants
        case type():
            return value.__qualname__, [_describe_class(kind, inner) for kind in value.__mro__]
    return type(value).__qualname__


def _describe_function(function: types.FunctionType, inner: Any) -> Any:
    if _is_known(function):
        return function.__qualname__
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(inner(cell.cell_contents))
        except ValueError:  # filled later
            cells.append("empty")
    defaults = inner(function.__defaults__), inner(function.__kwdefaults__)
    return function.__qualname__, inner(function.__code__), defaults, cells


def _describe_class(kind: type, inner: Any) -> Any:
    if _is_known(kind):
        return kind.__qualname__
    kept = {
        name: value
        for name, value in sorted(vars(kind).items())
        if not name.startswith("__") or isinstance(value, types.FunctionType)
    }
    return kind.__qualname__, inner(kept)


def _is_known(thing: Any) -> bool:
    return (thing.__module__ or "").partition(".")[0] in _KNOWN
