"""A small image-to-image network that is trained together with a surrogate."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

#: Groups of the normalisation; they divide every number of channels in `ImageToImage`.
_GROUPS = 8

_WIDTH = 16


class ImageToImage(nn.Module):
    """A small U-Net: two steps down to a quarter of the size, two up, with skip connections.

    It takes images of any size. It normalises each image by itself, so that the output of an
    image does not depend on the other images. The weights of the last layer start small, so that
    the output starts near zero.

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
        # Otherwise torch may infer another memory format for one image or for grey images. Its
        # convolutions differ in the last digits.
        images = images.contiguous()
        half = self.down(images)
        quarter = self.bottom(self.further_down(half))
        half = self.up(torch.cat([_enlarge(quarter, half), half], dim=1))
        return self.output(self.further_up(torch.cat([_enlarge(half, images), images], dim=1)))


class Partner:
    """Trains a generator, by Adam, on the loss of the surrogate.

    The training loop updates the surrogate only. An objective makes images, gives the surrogate
    the result of `shown`, computes the loss of that, and calls `move` before it returns.
    """

    def __init__(self, generator: nn.Module) -> None:
        self._optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3)

    @staticmethod
    def shown(images: torch.Tensor) -> torch.Tensor:
        """Return the images detached from the generator, as leaves that collect a gradient."""
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
            Output of the generator, and the same as the surrogate got it.
        loss : torch.Tensor
            A scalar that depends on `shown`; it can be differentiated again afterwards.
        penalty : torch.Tensor
            A scalar that depends on the generator directly, not through `shown`.
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
    """Resize images to the size of others; nearest has a deterministic gradient on CUDA."""
    return F.interpolate(images, size=like.shape[2:], mode="nearest")
