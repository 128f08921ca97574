"""Pretrained backbones: weights from a file or from torchvision."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from antibackdoor.backbones._registry import build_named
from antibackdoor.backbones._torchvision import RepeatGrey
from antibackdoor.utils import require

# Classifiers beside the last layer, which training of our own has no use for.
_AUXILIARY = ("aux", "AuxLogits")

_MOST_NAMED = 3


@dataclass(frozen=True)
class Pretrained:
    """A pretrained backbone, for the parameter `backbone`.

    Give it to a classifier::

        clf = ABLClassifier(backbone=Pretrained("resnet18", "resnet18.safetensors"))

    If the weights are for other classes, the last layer is initialised at random. The whole
    network is trained further.

    Parameters
    ----------
    name : str
        A name as `backbone` takes it, such as ``"resnet18"``.
    weights : str or path
        A file: the state dict of that network, by safetensors or `torch.save`. It is read without
        running code. ``"DEFAULT"``: torchvision's best, which it downloads once.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier
    >>> from antibackdoor.backbones import Pretrained
    >>> clf = ABLClassifier(backbone=Pretrained("resnet18", "resnet18.safetensors"))
    """

    name: str
    weights: str | os.PathLike[str]

    def __call__(self, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """Build the network.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it holds no weights, or those of another network, or torchvision has none.
        OSError
            If the weights cannot be read or downloaded.
        """
        module = build_named(self.name, input_shape, n_classes)
        named = f"weights={str(self.weights)!r}"
        _load(_without_grey(module), self._state(), n_classes, named, self.name)
        return module

    def _state(self) -> Mapping[str, torch.Tensor]:
        if self.weights == "DEFAULT":
            return _of_torchvision(self.name)
        return _of_file(Path(self.weights).expanduser())


def _without_grey(module: nn.Module) -> nn.Module:
    """Return the network itself, which may stand behind a layer that makes grey images RGB."""
    behind = isinstance(module, nn.Sequential) and isinstance(module[0], RepeatGrey)
    return module[1] if behind and isinstance(module, nn.Sequential) else module


def _of_torchvision(name: str) -> Mapping[str, torch.Tensor]:
    from torchvision import models

    try:
        known = models.get_model_weights(name)
    except ValueError as error:
        raise ValueError(
            f"weights='DEFAULT': torchvision has none for backbone={name!r}; wanted a file."
        ) from error
    try:
        state: Mapping[str, torch.Tensor] = known.DEFAULT.get_state_dict(progress=False)
    except OSError as error:  # URLError is one
        raise OSError(
            f"weights='DEFAULT' of {name!r} could not be downloaded ({error}). Where there is no "
            f"network, give a file."
        ) from error
    return state


def _of_file(path: Path) -> Mapping[str, torch.Tensor]:
    named = f"weights={str(path)!r}"
    if not path.exists():
        raise FileNotFoundError(f"{named}: there is no such file.")
    if path.is_dir():
        raise ValueError(f"{named} is a folder; wanted a file of weights.")
    if path.suffix == ".safetensors":
        require("weights", "persist", "safetensors")
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{named} is no file of safetensors: {error}") from error
    try:
        # What is no tensor is refused: nothing in the file is run.
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose text is long, and says how to run the file
        raise ValueError(
            f"{named} is no state dict of torch, or holds more than one, such as a whole network: "
            f"that could run any code, so it is refused. Wanted what torch.save(network."
            f"state_dict(), FILE) writes."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{named} is no state dict of torch: {error}") from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in loaded.values()
    ):
        raise ValueError(f"{named} holds no state dict: wanted tensors by their names.")
    return loaded


def _load(
    module: nn.Module, state: Mapping[str, torch.Tensor], n_classes: int, named: str, name: str
) -> None:
    """Put weights into a network, but for a last layer of other classes."""
    given = {key.removeprefix("module."): value for key, value in state.items()}
    own = module.state_dict()
    fitting = {
        key: value for key, value in given.items() if key in own and value.shape == own[key].shape
    }
    wrong = [
        f"{key} {tuple(given[key].shape)} and not {tuple(value.shape)}"
        for key, value in own.items()
        if key in given and key not in fitting and not _is_last(value, given[key], n_classes)
    ]
    missing = [key for key in own if key not in given]
    unknown = [key for key in given if key not in own and not key.startswith(_AUXILIARY)]
    for what, keys in (("has", wrong), ("lacks", missing), ("has too", unknown)):
        if keys:
            more = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
            raise ValueError(
                f"{named} does not fit backbone={name!r}: it {what} "
                f"{', '.join(keys[:_MOST_NAMED])}{more}."
            )
    module.load_state_dict(fitting, strict=False)


def _is_last(own: torch.Tensor, given: torch.Tensor, n_classes: int) -> bool:
    """Tell the last layer: it differs in the number of classes alone."""
    return own.shape[:1] == (n_classes,) and own.shape[1:] == given.shape[1:]
