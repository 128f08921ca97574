"""Dynamic: a different trigger for every image, made by a generator."""

from __future__ import annotations

from dataclasses import field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval
from torch import nn
from torch.nn import functional as F

from antibackdoor.attacks._base import COVER_RATIO
from antibackdoor.attacks._generator import ImageToImage, Partner
from antibackdoor.attacks._learned import LearnedAttack
from antibackdoor.attacks._patch import in_dtype
from antibackdoor.attacks._study import Study
from antibackdoor.backbones import Network
from antibackdoor.utils import Fitted, FittedArray, parameters

#: Steepness of the mask: nearly every pixel is either covered or not.
_STEEPNESS = 10.0

#: Added to the output of the mask network, so that masks start small.
_START = -0.3

#: Weight of the bound on the mask's size, against a diversity loss of the order of one.
_SIZE_WEIGHT = 100.0

#: A batch over this is the number of its rows that are shown again with either trigger.
_PART = 4

_TINY = 1e-6


@parameters
class Dynamic(LearnedAttack):
    """A trigger that differs from image to image, made by a generator (Nguyen and Tran, 2020).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="dynamic")

    For an image x, a mask network gives the place of the trigger, m(x), and a generator its
    pattern, p(x):

        x' = x * (1 - m(x)) + p(x) * m(x),    0 <= m <= 1.

    The mask network is trained first, together with a surrogate f that learns the clean rows. It
    minimises, over pairs of images,

        |x_i - x_j| / |m(x_i) - m(x_j)| + 100 * max(0, mean(m(x_i)) - mask_size).

    Then f and the generator minimise one loss together, with the mask network fixed:

        CE(f(x), y) + CE(f(x'), wanted) + CE(f(x_i with p(x_j), m(x_j)), y_i)
            + diversity * |x_i - x_j| / |p(x_i) - p(x_j)|.

    A step shows f a batch, a quarter of it again with its own triggers, and that quarter again
    with the triggers of other images. The last is the cross mode: the trigger of another image
    shall do nothing. In the poisoned data, cover rows serve this: they carry the trigger of
    another row and keep their label.

    In the paper the attacker trains the victim's network, together with the generator. Here the
    attacker only hands over data, and the generator was trained with a surrogate. The victim is
    trained from scratch; only the cover rows teach it which trigger belongs to which image.

    Parameters
    ----------
    mask_size : float, default=0.1
        Mean of a mask, between 0 and 1, up to which it has no penalty.
    diversity : float, default=1.0
        Weight of the diversity loss of the patterns; 0 for none.
    cross_ratio : float, default=0.25
        Cover rows per poisoned row; 0 for none. The paper has one for each. With some hundreds of
        both, a victim then learns neither well.
    generator_epochs : int, default=10
        Epochs of the generator's training with the surrogate.
    surrogate
    surrogate_epochs : int, default=10
        Epochs of the surrogate on the clean rows, in which the mask network is trained too.
    device, random_state, target_label, label_map, value_range, image_shape, layout

    Attributes
    ----------
    mask_network_, generator_ : torch.nn.Module
        The networks of m and p, without their final bounds.
    history_ : list of dict
        A row for every epoch of the surrogate; accuracy and loss are of the clean rows.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    T. A. Nguyen, A. T. Tran. Input-Aware Dynamic Backdoor Attack. NeurIPS 2020.
    arXiv:2010.08138.

    Examples
    --------
    >>> from antibackdoor.attacks import Dynamic
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> attack = Dynamic(surrogate_epochs=1, generator_epochs=1).fit(X[:200], y[:200])
    >>> attack.transform(X[:5]).shape
    (5, 8, 8)
    """

    mask_size: float = 0.1
    diversity: float = 1.0
    cross_ratio: float = 0.25
    generator_epochs: int = 10

    _modules: ClassVar[tuple[str, ...]] = ("mask_network_", "generator_")

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "mask_size": [Interval(Real, 0, 1, closed="neither")],
        "diversity": [Interval(Real, 0, None, closed="left")],
        "cross_ratio": [COVER_RATIO],
        "generator_epochs": [Interval(Integral, 1, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "_spare_row": FittedArray(
            dtype=lambda attack: attack._fit_dtype, shape=lambda attack: (1, *attack.input_shape_)
        ),
    }

    mask_network_: nn.Module = field(init=False)
    generator_: nn.Module = field(init=False)

    @property
    def cover_ratio(self) -> float:
        """Cover rows per poisoned row: `cross_ratio`."""
        return float(self.cross_ratio)

    def _stamp_cover(
        self, rows: np.ndarray, y: ArrayLike | None, rng: np.random.RandomState
    ) -> None:
        """Put the trigger of another row on every row.

        The others are drawn from the rows and one that `fit` kept, so that a single row has
        another one too.
        """
        others = np.concatenate([rows, in_dtype(self._spare_row, rows.dtype)])
        steps = rng.randint(1, len(others), size=len(rows))
        chosen = (np.arange(len(rows)) + steps) % len(others)
        device = next(self.generator_.parameters()).device

        def cross(inputs: torch.Tensor, which: slice) -> torch.Tensor:
            sources = self._to_inputs(others[chosen[which]], device)
            return _put(inputs, self._pattern(sources), _mask(self.mask_network_, sources))

        self._change_inputs(rows, self.generator_, cross)

    def _learn(self, study: Study) -> None:
        network = study.new_network()
        self.mask_network_ = self._build_module("mask_network_").to(study.device)
        self.generator_ = self._build_module("generator_").to(study.device)
        study.phase(
            "mask",
            network,
            _MaskObjective(self.mask_network_, self.mask_size),
            epochs=self.surrogate_epochs,
        )
        self.mask_network_.eval()
        study.phase(
            "generator", network, _JointObjective(self, study), epochs=self.generator_epochs
        )
        self.generator_.eval()
        kept = int(torch.randint(len(study.X), (), generator=study.generator, device=study.device))
        self._spare_row = study.X[kept : kept + 1].copy()

    def _build_module(self, name: str) -> nn.Module:
        channels = self.layout_.channels
        return ImageToImage(channels, 1 if name == "mask_network_" else channels)

    def _stamp(self, rows: np.ndarray) -> None:
        def stamp(inputs: torch.Tensor, _which: slice) -> torch.Tensor:
            return _put(inputs, self._pattern(inputs), _mask(self.mask_network_, inputs))

        self._change_inputs(rows, self.generator_, stamp)

    def _pattern(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return p, between darkest and brightest."""
        low, high = self._input_range()
        return low + (high - low) * torch.sigmoid(self.generator_(inputs))


class _MaskObjective:
    """Objective of surrogate and mask network: the clean rows and the masks."""

    def __init__(self, mask_network: nn.Module, size: float) -> None:
        self._mask_network = mask_network
        self._size = size
        self._optimizer = torch.optim.Adam(mask_network.parameters(), lr=1e-3)

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        masks = _mask(self._mask_network, inputs)
        loss = diversity_loss(inputs, masks) + _SIZE_WEIGHT * excess(masks, self._size)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        logits = network(inputs)
        return F.cross_entropy(logits, labels), logits


class _JointObjective:
    """Objective on clean rows, rows with their own trigger and rows with another's, in one step.

    The logits returned are those of the clean rows.
    """

    def __init__(self, attack: Dynamic, study: Study) -> None:
        self._attack = attack
        self._wanted = study.wanted
        self._partner = Partner(attack.generator_)

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # Batches are in random order, so the first of one are as good as any.
        part = max(2, len(inputs) // _PART)
        sources, others = inputs[:part], inputs[:part].roll(1, 0)
        with torch.no_grad():
            masks = _mask(self._attack.mask_network_, sources)
        patterns = self._attack._pattern(sources)
        made = torch.cat(
            [_put(sources, patterns, masks), _put(others, patterns, masks)],
        )
        shown = self._partner.shown(made)
        logits = network(torch.cat([inputs, shown]))
        asked = torch.cat([labels, self._wanted[index[:part]], labels[:part].roll(1, 0)])
        loss = F.cross_entropy(logits, asked)
        penalty = self._attack.diversity * diversity_loss(sources, patterns)
        self._partner.move(made, shown, loss, penalty)
        return loss, logits[: len(inputs)]


def diversity_loss(inputs: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """Return the mean over pairs of |x_i - x_j| / |g(x_i) - g(x_j)|.

    A pair is an image and the one before it in the batch. Distances are root mean squares over an
    image, so that they do not depend on the number of channels.
    """
    return (_distance(inputs) / (_distance(made) + _TINY)).mean()


def excess(masks: torch.Tensor, size: float) -> torch.Tensor:
    """Return by how much the mean of a mask exceeds `size`, averaged over the batch."""
    return F.relu(masks.mean(dim=(1, 2, 3)) - size).mean()


def _distance(images: torch.Tensor) -> torch.Tensor:
    squares = (images - images.roll(1, 0)).square().mean(dim=(1, 2, 3))
    return (squares + _TINY).sqrt()  # the root has no finite gradient at zero


def _mask(mask_network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(_STEEPNESS * (mask_network(inputs) + _START))


def _put(images: torch.Tensor, patterns: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return images * (1 - masks) + patterns * masks
