"""Compilation and mixed precision of a network in training."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import nn

from antibackdoor.backbones import Network
from antibackdoor.training._split import measures_together


class Acceleration:
    """Speeds up the networks of a fit in training, by compilation and mixed precision.

    Only the body is changed, which takes nearly all of the time. Standardisation, last layer and
    objective stay in float32, so that small losses keep their digits. Weights and statistics are
    those of the network itself.

    Parameters
    ----------
    compile : {"auto", True, False}
        Whether to compile bodies by `torch.compile`. ``"auto"``: on CUDA. If compiling fails, the
        fit warns once and continues without it. Bodies with batch norm are not compiled if
        several processes train, since batch norm then communicates with the others.
    device : torch.device
        Device of the fit. On CUDA with bfloat16, float32 bodies compute in bfloat16.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.backbones import build_network
    >>> from antibackdoor.training import Acceleration
    >>> network = build_network("mlp", (4,), 3, mean=torch.zeros(4), scale=torch.ones(4))
    >>> faster = Acceleration("auto", torch.device("cpu")).wrap(network)
    >>> faster(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(self, compile: bool | Literal["auto"], device: torch.device) -> None:
        # On a CPU it has no measurable gain and costs most of a minute a network.
        self.compiles = device.type == "cuda" if compile == "auto" else compile
        self.mixes = device.type == "cuda" and torch.cuda.is_bf16_supported()
        self._device = device

    def wrap(self, network: Network) -> Network:
        """Return a network that shares its weights with `network` and runs its body faster.

        Parameters
        ----------
        network : Network

        Returns
        -------
        Network
            For training only: its state names other parts than `network` has.
        """
        body = network.body
        if self.compiles and not measures_together(body):
            body = _Compiled(body, self)
        if self.mixes and network.head.weight.dtype == torch.float32:
            body = _Mixed(body, self._device.type)
        if body is network.body:
            return network
        return Network(network.standardise, body, network.head)


class _Compiled(nn.Module):
    """A module through `torch.compile`, until that fails."""

    def __init__(self, module: nn.Module, acceleration: Acceleration) -> None:
        super().__init__()
        self._module = module
        self._compiled = torch.compile(module)
        self._acceleration = acceleration

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._acceleration.compiles:
            try:
                return self._compiled(x)
            except Exception as error:
                # Each compiler raises errors of its own. Errors of the module itself are raised
                # again below.
                self._acceleration.compiles = False
                warnings.warn(
                    f"compile: torch.compile fails here, so the fit continues without it: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self._module(x)


class _Mixed(nn.Module):
    """A module that multiplies in bfloat16 and gives out float32."""

    def __init__(self, module: nn.Module, device_type: str) -> None:
        super().__init__()
        self._module = module
        self._device_type = device_type

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # No cached copies of the weights: inside a `torch.autocast` of the program they would be
        # used again after the weights have changed.
        with torch.autocast(self._device_type, dtype=torch.bfloat16, cache_enabled=False):
            return self._module(x).float()
