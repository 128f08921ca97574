"""How the body of a network runs while it is trained: compiled, and in what precision."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import nn

from antibackdoor.backbones import Network
from antibackdoor.training._split import measures_together


class Acceleration:
    """What makes the networks of one fit faster in training.

    The body alone is changed, where the time goes: standardisation, last layer and objective stay
    as they are, in float32, so that small losses keep their digits. Weights and statistics
    are those of the network itself.

    Parameters
    ----------
    compile : {"auto", True, False}
        Whether to put bodies through `torch.compile`. ``"auto"``: on CUDA. A compilation that
        fails is told of by one warning, and the fit goes on without. So it does where several
        processes train a body with batch norm, which asks the others in the midst of it.
    device : torch.device
        Of the fit. On CUDA, where it knows bfloat16, bodies in float32 compute in that.
    """

    def __init__(self, compile: bool | Literal["auto"], device: torch.device) -> None:
        # On a CPU it gains nothing that can be measured and costs most of a minute a network.
        self.compiles = device.type == "cuda" if compile == "auto" else compile
        self.mixes = device.type == "cuda" and torch.cuda.is_bf16_supported()
        self._device = device

    def wrap(self, network: Network) -> Network:
        """Return a network that shares all with `network` and runs its body faster.

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
                # Whatever a compiler raises, and each raises its own. What is wrong with the
                # module itself is raised again below.
                self._acceleration.compiles = False
                warnings.warn(
                    f"compile: torch.compile fails here, so the fit goes on without it: {error}",
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
        # Nothing is kept of the weights: inside a `torch.autocast` of the program's, it would be
        # used again after the weights have moved.
        with torch.autocast(self._device_type, dtype=torch.bfloat16, cache_enabled=False):
            return self._module(x).float()
