"""Conversion of networks to arrays, so that files name no torch type and no device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from antibackdoor.backbones._network import Network
from antibackdoor.backbones._registry import Backbone, build_network
from antibackdoor.utils import seeded_torch
from antibackdoor.utils._torch import usual_torch


def to_arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """Return the weights and buffers of a module."""
    return {name: tensor.cpu().numpy() for name, tensor in module.state_dict().items()}


def from_arrays(arrays: dict[str, np.ndarray], build: Callable[[], nn.Module]) -> nn.Module:
    """Rebuild a module from its arrays, in evaluation mode."""
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
    """Rebuild a network of `build_network` from its arrays, in evaluation mode."""
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
