"""Backbones by name, by callable and by module."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable

import torch
from torch import nn

from antibackdoor.backbones._network import Network, Standardise, split_head
from antibackdoor.backbones._residual import preact_resnet18, wide_resnet
from antibackdoor.backbones._small import mlp, small_cnn
from antibackdoor.backbones._torchvision import torchvision_classifier, torchvision_names
from antibackdoor.utils._random import follow_seed
from antibackdoor.utils._torch import DefaultFloat32

#: What a user may give: a name, a module, or a function of (input_shape, n_classes).
Backbone = str | nn.Module | Callable[[tuple[int, ...], int], nn.Module]

#: Builders of the networks of this package, from (input_shape, n_classes).
BACKBONES: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {
    "mlp": lambda shape, n_classes: mlp(math.prod(shape), n_classes),
    "small-cnn": lambda shape, n_classes: small_cnn(shape[0], n_classes),
    "preact-resnet18": lambda shape, n_classes: preact_resnet18(shape[0], n_classes),
}


def choose_backbone(input_shape: tuple[int, ...]) -> str:
    """Return the name of the network that ``backbone="auto"`` chooses.

    Parameters
    ----------
    input_shape : tuple of int
        (n_features,) or (C, H, W).

    Returns
    -------
    str
        ``"mlp"`` for tables, ``"small-cnn"`` for images less than 16 pixels high or
        wide, ``"wrn-16-1"`` up to 64, ``"resnet18"`` above.

    Examples
    --------
    >>> from antibackdoor.backbones import choose_backbone
    >>> choose_backbone((4,)), choose_backbone((1, 8, 8)), choose_backbone((3, 32, 32))
    ('mlp', 'small-cnn', 'wrn-16-1')
    """
    if len(input_shape) == 1:
        return "mlp"
    if min(input_shape[1:]) < 16:
        return "small-cnn"
    return "wrn-16-1" if max(input_shape[1:]) <= 64 else "resnet18"


def build_network(
    backbone: Backbone,
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    mean: torch.Tensor,
    scale: torch.Tensor,
    dtype: torch.dtype = torch.float32,
) -> Network:
    """Build an untrained network.

    Weights are drawn from torch's generator: for fixed weights call it inside `seeded_torch`.
    They are drawn as float32 for any default type.

    Parameters
    ----------
    backbone : str, torch.nn.Module or callable
        A name: ``"auto"``, ``"mlp"``, ``"small-cnn"``, ``"wrn-D-K"``,
        ``"preact-resnet18"`` or a classifier of torchvision. A module is copied and
        keeps the weights it has. A callable is given ``(input_shape, n_classes)``; where it
        calls ``torch.manual_seed``, its weights are those of that seed.
    input_shape : tuple of int
        Shape of one sample: (n_features,) or (C, H, W).
    n_classes : int
        Number of logits.
    mean, scale : torch.Tensor of shape (n_features,) or (C,)
        The network subtracts the mean from its input and divides by the scale.
    dtype : torch.dtype, default=torch.float32
        Dtype of the weights.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If the name is unknown or the network does not match the data.
    TypeError
        If `backbone`, or what a callable returns, is none of the above.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.backbones import build_network
    >>> network = build_network("mlp", (4,), 3, mean=torch.zeros(4), scale=torch.ones(4))
    >>> network(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """
    with DefaultFloat32():
        module = _build_module(backbone, input_shape, n_classes).to(dtype)
    body, head = split_head(module, torch.zeros(2, *input_shape, dtype=dtype), n_classes)
    network = Network(Standardise(mean.to(dtype), scale.to(dtype)), body, head)
    if len(input_shape) == 3:
        network = network.to(memory_format=torch.channels_last)
    return network


def _build_module(backbone: Backbone, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    if isinstance(backbone, nn.Module):
        return copy.deepcopy(backbone)
    if isinstance(backbone, str):
        return build_named(backbone, input_shape, n_classes)
    if not callable(backbone):
        raise TypeError(
            f"backbone={backbone!r}; wanted a name, a torch.nn.Module or a callable "
            f"(input_shape, n_classes) -> torch.nn.Module."
        )
    with follow_seed():
        module = backbone(input_shape, n_classes)
    if not isinstance(module, nn.Module):
        raise TypeError(f"backbone returned a {type(module).__name__}; wanted a torch.nn.Module.")
    # A callable may hand out the same module twice; training must change neither.
    return copy.deepcopy(module)


def build_named(name: str, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """Build a network by its name, as `build_network` does."""
    if name == "auto":
        name = choose_backbone(input_shape)
    wide = re.fullmatch(r"wrn-(\d+)-(\d+)", name)
    # torchvision takes seconds to import: asked only for what is not ours.
    if not (name in BACKBONES or wide or name in torchvision_names()):
        known = ", ".join(["auto", "wrn-D-K", *BACKBONES])
        raise ValueError(
            f"backbone={name!r} is unknown; wanted one of {known}, or one of the "
            f"{len(torchvision_names())} classifiers in torchvision.models.list_models()."
        )
    if name != "mlp" and len(input_shape) == 1:
        raise ValueError(
            f"backbone={name!r} takes images, but X has rows of {input_shape[0]} features; "
            f"give image_shape= to fold them, or backbone='mlp'."
        )
    if wide:
        depth, width = int(wide[1]), int(wide[2])
        if depth < 10 or (depth - 4) % 6 or width < 1:
            raise ValueError(
                f"backbone={name!r}: the depth of a wrn-D-K is 6 n + 4 (10, 16, 22, ...) "
                f"and its width 1 or more."
            )
        return wide_resnet(input_shape[0], n_classes, depth=depth, width=width)
    if name in BACKBONES:
        return BACKBONES[name](input_shape, n_classes)
    return torchvision_classifier(name, (input_shape[0], input_shape[1], input_shape[2]), n_classes)
