"""Which networks draw random numbers as they run."""

from __future__ import annotations

from torch import nn

#: Layers of torch that draw none. Any other may, and any module of a user's.
_DRAW_NOTHING = {
    *(nn.Identity, nn.Sequential, nn.ModuleList, nn.Flatten, nn.Unflatten, nn.Linear),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Upsample),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm),
    *(nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
}


def draws_nothing(module: nn.Module) -> bool:
    """Tell whether a module is known to draw no random numbers in its forward pass."""
    return all(
        (type(part) in _DRAW_NOTHING or is_own(part)) and not _is_changed(part)
        for part in module.modules()
    )


def is_own(part: object) -> bool:
    """Tell whether something is of a class of this package.

    These draw from generators of ours, or inside `drawing_on`.
    """
    return type(part).__module__.partition(".")[0] == __name__.partition(".")[0]


def _is_changed(part: nn.Module) -> bool:
    """Tell whether a module runs what its class does not tell of."""
    return bool(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part))
