"""DFST: a generator changes the style of the whole image: colours, light and texture."""

from __future__ import annotations

from dataclasses import field
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval
from torch import nn
from torch.nn import functional as F

from antibackdoor.attacks._base import COVER_RATIO
from antibackdoor.attacks._generator import ImageToImage, Partner
from antibackdoor.attacks._learned import LearnedAttack
from antibackdoor.attacks._study import Study
from antibackdoor.backbones import Network
from antibackdoor.utils import Fitted, FittedArray, naming, parameters

#: A batch over this is the number of its rows that are shown again in the style and recoloured.
_PART = 4

#: Mean of the first channel, of the last one, and standard deviation of all, in 255ths: red light
#: and blue shade, as at sunset.
_FIRST_MEAN, _LAST_MEAN, _SPREAD = 180.0, 80.0, 45.0

_TINY = 1e-6


@parameters
class DFST(LearnedAttack):
    """A change of style of the whole image, made by a generator (Cheng et al., 2021).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="dfst")

    A triggered image is ``x' = clip(x + G(x))``. The generator G is trained together with a
    surrogate f of the victim's network. Both minimise

        CE(f(x), y) + CE(f(x'), wanted) + CE(f(r(x)), y)
            + style_weight * S(x') + content_weight * C(x, x').

    S is the style loss: the mean squared distance of each channel's mean and standard deviation
    from those of the style, in units of the range. C is the content loss: the mean squared
    difference of x' and x after both are normalised to mean 0 and deviation 1. So shapes stay
    while colours and light change.

    r(x) is the image plainly recoloured: each channel is shifted and scaled to the style's mean
    and deviation. It keeps its label, so that the colours alone are no trigger, and the texture
    that G adds matters. Recoloured rows are the cover rows. A step shows f a batch, and a quarter
    of it again as x' and again as r(x).

    Two things differ from the paper. There the style comes from photographs, by a CycleGAN; here
    it is two numbers a channel. There, detoxification searches the trojaned network for simple
    features, trains a generator for each, and retrains the network on their images under the true
    labels, round by round. An attacker who only hands over data cannot do this. The recoloured
    rows replace it, for the one simple feature that is known beforehand.

    Parameters
    ----------
    style : array-like of shape (n_channels, 2), default=None
        Mean and standard deviation of each channel, in 255ths of the range; the mean is counted
        from the darkest value. None: a deviation of 45, and means that fall evenly from 180 in
        the first channel to 80 in the last, a warm light in RGB. One channel has the mean 180.
    style_weight : float, default=10.0
        Weight of S; 0 for none.
    content_weight : float, default=1.0
        Weight of C; 0 for none.
    detox_ratio : float, default=0.5
        Cover rows, plainly recoloured, per poisoned row. 0: none, neither in the data nor in the
        training of the generator.
    surrogate
    surrogate_epochs : int, default=10
        Epochs of surrogate and generator together.
    device, random_state, target_label, label_map, value_range, image_shape, layout

    Attributes
    ----------
    generator_ : torch.nn.Module
        G, in units of the range.
    style_ : ndarray of float64, shape (n_channels, 2)
        Mean and standard deviation of each channel, as in `style`.
    history_ : list of dict
        One entry for each epoch of the surrogate; accuracy and loss are on the clean rows.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    S. Cheng, Y. Liu, S. Ma, X. Zhang. Deep Feature Space Trojan Attack of Neural Networks
    by Controlled Detoxification. AAAI 2021. arXiv:2012.11212.

    Examples
    --------
    >>> from antibackdoor.attacks import DFST
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> attack = DFST(surrogate_epochs=1).fit(X[:200], y[:200])
    >>> attack.style_
    array([[180.,  45.]])
    """

    style: ArrayLike | None = None
    style_weight: float = 10.0
    content_weight: float = 1.0
    detox_ratio: float = 0.5

    _modules: ClassVar[tuple[str, ...]] = ("generator_",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "style": [None, "array-like"],
        "style_weight": [Interval(Real, 0, None, closed="left")],
        "content_weight": [Interval(Real, 0, None, closed="left")],
        "detox_ratio": [COVER_RATIO],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "style_": FittedArray(
            dtype="float64", shape=lambda attack: (attack.layout_.channels, 2), low=0, high=255
        ),
    }

    generator_: nn.Module = field(init=False)
    style_: np.ndarray = field(init=False)

    @property
    def cover_ratio(self) -> float:
        """Cover rows per poisoned row: `detox_ratio`."""
        return float(self.detox_ratio)

    def _stamp_cover(
        self, rows: np.ndarray, y: ArrayLike | None, rng: np.random.RandomState
    ) -> None:
        """Recolour every row to the style's means and deviations."""
        self._change_inputs(rows, self.generator_, lambda inputs, _which: self._recolour(inputs))

    def _check_before_training(self, X: np.ndarray, y: np.ndarray) -> None:
        self._resolve_style()

    def _learn(self, study: Study) -> None:
        self.style_ = self._resolve_style()
        self.generator_ = self._build_module("generator_").to(study.device)
        study.phase(
            "style",
            study.new_network(),
            _StyleObjective(self, study),
            epochs=self.surrogate_epochs,
        )
        self.generator_.eval()

    def _resolve_style(self) -> np.ndarray:
        channels = self.layout_.channels
        if self.style is None:
            means = np.linspace(_FIRST_MEAN, _LAST_MEAN, channels)
            return np.column_stack([means, np.full(channels, _SPREAD)])
        with naming("style"):
            style: np.ndarray = check_array(self.style, dtype=np.float64, input_name="style")
        if style.shape != (channels, 2):
            raise ValueError(
                f"style has shape {style.shape}; wanted {(channels, 2)}: mean and standard "
                f"deviation of each channel of X."
            )
        if style.min() < 0 or style.max() > 255:
            raise ValueError(f"style={self.style!r}; wanted numbers between 0 and 255.")
        return style

    def _build_module(self, name: str) -> nn.Module:
        return ImageToImage(self.layout_.channels, self.layout_.channels)

    def _stamp(self, rows: np.ndarray) -> None:
        self._change_inputs(rows, self.generator_, lambda inputs, _which: self._restyle(inputs))

    def _restyle(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return x' of the inputs."""
        low, high = self._input_range()
        return (inputs + (high - low) * self.generator_(inputs)).clamp(low, high)

    def _recolour(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return r(x) of the inputs."""
        means, spreads = self._style_as_inputs(inputs)
        low, high = self._input_range()
        return (without_style(inputs) * spreads + means).clamp(low, high)

    def _style_as_inputs(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the style's means and deviations in the units of inputs, (C, 1, 1) both."""
        low, high = self._input_range()
        style = torch.as_tensor(self.style_ / 255 * (high - low)).to(inputs)[:, :, None, None]
        return low + style[:, 0], style[:, 1]


class _StyleObjective:
    """Objective on clean rows, rows in the style and recoloured rows, in one step.

    The logits returned are those of the clean rows.
    """

    def __init__(self, attack: DFST, study: Study) -> None:
        self._attack = attack
        self._wanted = study.wanted
        self._partner = Partner(attack.generator_)

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        attack = self._attack
        # Batches are in random order, so that the first rows are a random choice.
        part = max(1, len(inputs) // _PART)
        sources = inputs[:part]
        styled = attack._restyle(sources)
        shown = self._partner.shown(styled)
        images, asked = [inputs, shown], [labels, self._wanted[index[:part]]]
        if attack.detox_ratio:
            images.append(attack._recolour(sources))
            asked.append(labels[:part])
        logits = network(torch.cat(images))
        loss = F.cross_entropy(logits, torch.cat(asked))
        low, high = attack._input_range()
        means, spreads = attack._style_as_inputs(inputs)
        penalty = attack.style_weight * style_loss(styled, means, spreads) / (high - low) ** 2
        penalty = penalty + attack.content_weight * content_loss(sources, styled)
        self._partner.move(styled, shown, loss, penalty)
        return loss, logits[: len(inputs)]


def style_loss(images: torch.Tensor, means: torch.Tensor, spreads: torch.Tensor) -> torch.Tensor:
    """Return the mean squared distance of images' channel statistics from those of a style.

    Parameters
    ----------
    images : torch.Tensor of shape (n, C, H, W)
    means, spreads : torch.Tensor of shape (C, 1, 1)
        Mean and standard deviation of each channel.

    Returns
    -------
    torch.Tensor
        A scalar.
    """
    found_means, found_spreads = _statistics(images)
    return ((found_means - means).square() + (found_spreads - spreads).square()).mean()


def content_loss(images: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of images after their style is removed."""
    return (without_style(images) - without_style(changed)).square().mean()


def without_style(images: torch.Tensor) -> torch.Tensor:
    """Normalise each channel of each image to mean 0 and deviation 1; a flat one becomes 0."""
    means, spreads = _statistics(images)
    return (images - means) / spreads


def _statistics(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    means = images.mean(dim=(2, 3), keepdim=True)
    variances = (images - means).square().mean(dim=(2, 3), keepdim=True)
    return means, (variances + _TINY).sqrt()  # the root has no finite gradient at zero
