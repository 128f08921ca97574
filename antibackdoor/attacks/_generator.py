"""A small network that makes an image of an image, and moves with the surrogate it serves."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

#: Groups of the normalisation; they divide every number of channels in `ImageToImage`.
_GROUPS = 8

_WIDTH = 16


class ImageToImage(nn.Module):
    """Two steps down to a quarter of the size, two steps up, with a bridge at each size.

    It takes images of any size. Its normalisation is over each image alone, so that what an
    image becomes does not depend on the others, in training or after it. The last layer
    starts small: whatever the caller makes of the output, it starts near that of zero.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Channels.
    """

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.down = _block(n_inputs, _WIDTH, stride=2)
        self.further_down = _block(_WIDTH, 2 * _WIDTH, stride=2)
        self.bottom = _block(2 * _WIDTH, 2 * _WIDTH)
        self.up = _block(3 * _WIDTH, _WIDTH)
        self.further_up = _block(_WIDTH + n_inputs, _WIDTH)
        self.output = nn.Conv2d(_WIDTH, n_outputs, 3, padding=1)
        for parameter in self.output.parameters():
            nn.init.normal_(parameter, std=0.01)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (n, n_outputs, H, W), unbounded, for images (n, n_inputs, H, W)."""
        # A batch of one or of grey images would else be taken for another memory format,
        # which has other convolutions with other last digits.
        images = images.contiguous()
        half = self.down(images)
        quarter = self.bottom(self.further_down(half))
        half = self.up(torch.cat([_enlarge(quarter, half), half], dim=1))
        return self.output(self.further_up(torch.cat([_enlarge(half, images), images], dim=1)))


class Partner:
    """Moves a generator, by Adam, down the loss that the surrogate is trained on.

    The training loop moves the surrogate alone. An objective makes images, shows the
    surrogate what `shown` returns of them, works out the loss of that, and calls `move`
    before it returns.

    Parameters
    ----------
    generator : torch.nn.Module
    """

    def __init__(self, generator: nn.Module) -> None:
        self._optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3)

    @staticmethod
    def shown(images: torch.Tensor) -> torch.Tensor:
        """Return the images cut off from what made them, ready to take a gradient."""
        return images.detach().requires_grad_()

    def move(
        self,
        images: torch.Tensor,
        shown: torch.Tensor,
        loss: torch.Tensor,
        penalty: torch.Tensor,
    ) -> None:
        """Take one step down ``loss + penalty``.

        Parameters
        ----------
        images, shown : torch.Tensor
            What the generator made, and the same as the surrogate saw it.
        loss : torch.Tensor
            A scalar that depends on `shown`; it can still be differentiated afterwards.
        penalty : torch.Tensor
            A scalar that depends on the generator and not through `shown`.
        """
        (gradient,) = torch.autograd.grad(loss, shown, retain_graph=True)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([images, penalty], [gradient, None])
        self._optimizer.step()


def _block(n_inputs: int, n_outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_inputs, n_outputs, 3, stride, 1, bias=False),
        nn.GroupNorm(_GROUPS, n_outputs),
        nn.ReLU(inplace=True),
    )


def _enlarge(images: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bring images to the height and width of others; nearest has a fixed gradient on CUDA."""
    return F.interpolate(images, size=like.shape[2:], mode="nearest")
