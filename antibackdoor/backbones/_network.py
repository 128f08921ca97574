"""A backbone as the rest of the package sees it: normalisation, features, logits."""

from __future__ import annotations

import torch
from torch import nn


class Standardise(nn.Module):
    """Subtract a mean and divide by a scale, per channel or per column.

    Parameters
    ----------
    mean, scale : torch.Tensor of shape (n_channels,)
        Buffers of the module. A scale of zero, of a constant channel, is taken for one.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(scale > 0, scale, torch.ones_like(scale)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (x - self.mean.view(shape)) / self.scale.view(shape)


class Network(nn.Module):
    """A network in three parts: `standardise`, `body` and a linear `head`.

    `build_network` returns one. It gives logits; `features` gives the input of the head.

    Parameters
    ----------
    standardise : torch.nn.Module
        Applied to the input first.
    body : torch.nn.Module
        Gives the features of each sample: the input of the last linear layer.
    head : torch.nn.Linear
        The last linear layer.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.backbones import build_network
    >>> network = build_network(
    ...     "small-cnn", (1, 8, 8), 10, mean=torch.zeros(1), scale=torch.ones(1)
    ... )
    >>> images = torch.zeros(2, 1, 8, 8)
    >>> network(images).shape, network.features(images).shape
    (torch.Size([2, 10]), torch.Size([2, 64]))
    """

    def __init__(self, standardise: nn.Module, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.standardise = standardise
        self.body = body
        self.head = head

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input of the last linear layer, shape (n, n_features)."""
        return self.body(self.standardise(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (n, n_classes)."""
        return self.head(self.features(x))

    def resize_head(self, n_classes: int) -> None:
        """Set the number of outputs of the head; the weights of the first ones are kept."""
        old = self.head
        if n_classes == old.out_features:
            return
        like = {"device": old.weight.device, "dtype": old.weight.dtype}
        new = nn.utils.skip_init(
            nn.Linear, old.in_features, n_classes, bias=old.bias is not None, **like
        )
        if n_classes > old.out_features:
            new.reset_parameters()  # and where none is added, nothing is drawn
        n_kept = min(n_classes, old.out_features)
        with torch.no_grad():
            new.weight[:n_kept] = old.weight[:n_kept]
            if old.bias is not None:
                new.bias[:n_kept] = old.bias[:n_kept]
        self.head = new

    def gathered(self, rows: torch.Tensor) -> torch.Tensor:
        """Return, for every row last given to `features`, what was taken inside the body.

        For what a hook has seen there: a network in training on several devices shows its
        body a share of the batch on each. This one shows it all.
        """
        return rows


def split_head(
    backbone: nn.Module, example: torch.Tensor, n_classes: int
) -> tuple[nn.Module, nn.Linear]:
    """Take the last linear layer off a backbone, in place.

    Parameters
    ----------
    backbone : torch.nn.Module
        Changed in place: an identity takes the place of its last linear layer.
    example : torch.Tensor of shape (2, ...)
        Inputs to trace it with.
    n_classes : int
        Number of logits wanted.

    Raises
    ------
    ValueError
        If the backbone does not run on the example, does not give `n_classes`
        logits a row, or does not end in a linear layer.
    """
    linear_outputs: dict[str, torch.Tensor] = {}
    linear_layers = {
        name: layer for name, layer in backbone.named_modules() if isinstance(layer, nn.Linear)
    }
    hooks = [
        layer.register_forward_hook(
            lambda _layer, _inputs, output, name=name: linear_outputs.update({name: output})
        )
        for name, layer in linear_layers.items()
    ]
    was_training = backbone.training
    try:
        with torch.no_grad():
            logits = backbone.eval()(example)
    except Exception as error:
        # Whatever a network of the user's raises, the cause to name is the backbone.
        raise ValueError(
            f"backbone {type(backbone).__name__} cannot take an input of shape "
            f"{tuple(example.shape)} and dtype {example.dtype}: {error}"
        ) from error
    finally:
        backbone.train(was_training)
        for hook in hooks:
            hook.remove()

    got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if got != (len(example), n_classes):
        raise ValueError(
            f"backbone {type(backbone).__name__} gives {got} for {len(example)} rows; wanted "
            f"logits of shape {(len(example), n_classes)}, one column for each class of y."
        )
    last = next((name for name, output in linear_outputs.items() if output is logits), None)
    if last is None:
        raise ValueError(
            f"backbone {type(backbone).__name__} must end in a torch.nn.Linear whose output "
            f"it returns as it is (logits, no softmax): its input gives the features."
        )
    head = linear_layers[last]
    if not last:
        return nn.Identity(), head
    parent, _, child = last.rpartition(".")
    setattr(backbone.get_submodule(parent), child, nn.Identity())
    return backbone, head
