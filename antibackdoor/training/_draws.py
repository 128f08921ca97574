"""Which networks draw random numbers as they run."""

from __future__ import annotations

from torch import nn

#: Layers of torch that draw no random numbers. Others may, and any module of a user.
_DRAW_NOTHING = {
    *(nn.Identity, nn.Sequential, nn.ModuleList, nn.Flatten, nn.Unflatten, nn.Linear),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Upsample),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm),
    *(nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
}


def draws_nothing(module: nn.Module) -> bool:
    """Return whether a module is known to draw no random numbers in its forward pass."""
    return all(
        (type(part) in _DRAW_NOTHING or is_own(part)) and not _is_changed(part)
        for part in module.modules()
    )


def is_own(part: object) -> bool:
    """Return whether an object is of a class of this package.

    These draw from our generators, or inside `drawing_on`.
    """
    return type(part).__module__.partition(".")[0] == __name__.partition(".")[0]


def _is_changed(part: nn.Module) -> bool:
    """Return whether a module runs code that is not in its class, such as hooks."""
    return bool(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part))
