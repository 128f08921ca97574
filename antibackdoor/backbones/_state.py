"""Conversion of networks to arrays, so that files name no torch type and no device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from antibackdoor.backbones._network import Network
from antibackdoor.backbones._registry import Backbone, build_network
from antibackdoor.utils import seeded_torch, usual_torch


def to_arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """Return the weights and buffers of a module.

    Examples
    --------
    >>> from torch import nn
    >>> from antibackdoor.backbones import to_arrays
    >>> arrays = to_arrays(nn.Linear(4, 2))
    >>> {name: array.shape for name, array in arrays.items()}
    {'weight': (2, 4), 'bias': (2,)}
    """
    return {name: tensor.cpu().numpy() for name, tensor in module.state_dict().items()}


def from_arrays(arrays: dict[str, np.ndarray], build: Callable[[], nn.Module]) -> nn.Module:
    """Rebuild a module from its arrays, in evaluation mode.

    Examples
    --------
    >>> from torch import nn
    >>> from antibackdoor.backbones import from_arrays, to_arrays
    >>> layer = nn.Linear(4, 2)
    >>> copy = from_arrays(to_arrays(layer), lambda: nn.Linear(4, 2))
    >>> bool((copy.weight == layer.weight).all())
    True
    """
    # The initial weights are thrown away; drawing them must not be noticed, nor waited for.
    with usual_torch(), seeded_torch(0, torch.device("cpu")):
        module = build()
    # To where the network is: one without memory, built to compare names and shapes, takes
    # nothing else without a warning.
    places = {name: tensor.device for name, tensor in module.state_dict().items()}
    module.load_state_dict(
        {name: _to_tensor(array).to(places.get(name, "cpu")) for name, array in arrays.items()}
    )
    return module.eval()


def network_from_arrays(
    arrays: dict[str, np.ndarray], backbone: Backbone, input_shape: tuple[int, ...], n_classes: int
) -> Network:
    """Rebuild a network of `build_network` from its arrays, in evaluation mode.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.backbones import build_network, network_from_arrays, to_arrays
    >>> network = build_network("mlp", (4,), 3, mean=torch.zeros(4), scale=torch.ones(4))
    >>> copy = network_from_arrays(to_arrays(network), "mlp", (4,), 3)
    >>> bool((copy.head.weight == network.head.weight).all())
    True
    """
    network = from_arrays(
        arrays,
        lambda: build_network(
            backbone,
            input_shape,
            n_classes,
            mean=_to_tensor(arrays["standardise.mean"]),
            scale=_to_tensor(arrays["standardise.scale"]),
            dtype=_to_tensor(arrays["head.weight"]).dtype,
        ),
    )
    assert isinstance(network, Network)
    return network


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array))
