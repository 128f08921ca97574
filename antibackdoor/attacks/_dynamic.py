"""Dynamic: a trigger of its own for every image, made by a generator."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from torch import nn
from torch.nn import functional as F

from antibackdoor.attacks._base import COVER_RATIO
from antibackdoor.attacks._generator import ImageToImage, Partner
from antibackdoor.attacks._label_maps import LabelMap
from antibackdoor.attacks._learned import LearnedAttack, Study
from antibackdoor.attacks._patch import in_dtype
from antibackdoor.backbones import Backbone, Network
from antibackdoor.utils import Fitted, FittedArray

#: How steep the mask is: nearly every pixel is then covered or left.
_STEEPNESS = 10.0

#: Added to what the mask network gives, so that masks start small.
_START = -0.3

#: Weight of the bound on the mask's size, against a diversity loss of the order of one.
_SIZE_WEIGHT = 100.0

#: Part of a batch that is shown again with a trigger, and with another image's.
_PART = 4

_TINY = 1e-6


class Dynamic(LearnedAttack):
    """A pattern and a mask that differ from image to image (Nguyen and Tran, 2020).

    A mask network says where the trigger of an image goes, a generator what it is:

        x' = x * (1 - m(x)) + p(x) * m(x),    0 <= m <= 1.

    The mask network is trained first, beside a surrogate that learns the clean rows, to
    minimise, over pairs of images,

        |x_i - x_j| / |m(x_i) - m(x_j)| + 100 * max(0, mean(m(x_i)) - mask_size).

    Then surrogate f and generator go down one loss together, the mask being held:

        CE(f(x), y) + CE(f(x'), wanted) + CE(f(x_i with p(x_j), m(x_j)), y_i)
            + diversity * |x_i - x_j| / |p(x_i) - p(x_j)|.

    Each step shows f a batch, a quarter of it once more with its triggers, and that quarter
    with those of other images. The latter, the cross mode, says that the trigger of another
    image does nothing. It is handed over as cover rows, which bear the trigger of
    another row and keep their label.

    The original is the victim's own training, which generator and network leave as a
    pair. An attacker who only hands over data has the generator of a surrogate: the victim
    is trained from scratch on rows, and how well it learns whose trigger is whose is left
    to the cover rows.

    Parameters
    ----------
    mask_size : float, default=0.1
        Mean of a mask that costs nothing, between 0 and 1.
    diversity : float, default=1.0
        Weight of the diversity loss of the patterns; 0 for none.
    cross_ratio : float, default=0.25
        Cover rows per poisoned row; 0 for none. The paper has one for each; a victim with
        some hundreds of either then learns neither well.
    generator_epochs : int, default=10
        Epochs of the generator's training with the surrogate.
    surrogate : str, torch.nn.Module or callable, default="auto"
        The network that stands for the victim's: a backbone as the classifiers take it.
    surrogate_epochs : int, default=10
        Epochs of its training on the clean rows, in which the mask network is trained too.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=0
        Seeds all that is trained or drawn in `fit`.
    target_label : int, float, bool or str, default=0
        Class that triggered rows shall be taken for.
    label_map : {"all_to_one", "all_to_all"} or callable, default="all_to_one"
        Which class becomes which; see `BaseAttack`.
    value_range : tuple of two float, default=None
        Darkest and brightest value. None: (0, 255) for uint8, else smallest and largest in `fit`.
    image_shape : tuple of int, default=None
        Shape that flattened rows fold into: (H, W), (H, W, C) or (C, H, W).
    layout : {"auto", "channels_first", "channels_last"}, default="auto"
        Where the channels of three-axis images are.

    Attributes
    ----------
    mask_network_, generator_ : torch.nn.Module
        What makes m and p, before they are brought between their bounds.
    history_ : list of dict
        A row for every epoch of the surrogate; accuracy and loss are of the clean rows.
    classes_, input_shape_, layout_, n_features_in_, value_range_
        As in `BaseAttack`.

    References
    ----------
    T. A. Nguyen, A. T. Tran. Input-Aware Dynamic Backdoor Attack. NeurIPS 2020.
    arXiv:2010.08138.
    """

    _modules: ClassVar[tuple[str, ...]] = ("mask_network_", "generator_")

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **LearnedAttack._parameter_constraints,
        "mask_size": [Interval(Real, 0, 1, closed="neither")],
        "diversity": [Interval(Real, 0, None, closed="left")],
        "cross_ratio": [COVER_RATIO],
        "generator_epochs": [Interval(Integral, 1, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        **LearnedAttack._fitted_constraints,
        "_spare_row": FittedArray(
            dtype=lambda attack: attack._fit_dtype, shape=lambda attack: (1, *attack.input_shape_)
        ),
    }

    mask_network_: nn.Module
    generator_: nn.Module

    def __init__(
        self,
        *,
        mask_size: float = 0.1,
        diversity: float = 1.0,
        cross_ratio: float = 0.25,
        generator_epochs: int = 10,
        surrogate: Backbone = "auto",
        surrogate_epochs: int = 10,
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | None = 0,
        target_label: Any = 0,
        label_map: str | LabelMap = "all_to_one",
        value_range: Sequence[float] | None = None,
        image_shape: Sequence[int] | None = None,
        layout: Literal["auto", "channels_first", "channels_last"] = "auto",
    ) -> None:
        self.mask_size = mask_size
        self.diversity = diversity
        self.cross_ratio = cross_ratio
        self.generator_epochs = generator_epochs
        self.surrogate = surrogate
        self.surrogate_epochs = surrogate_epochs
        self.device = device
        self.random_state = random_state
        self.target_label = target_label
        self.label_map = label_map
        self.value_range = value_range
        self.image_shape = image_shape
        self.layout = layout

    @property
    def cover_ratio(self) -> float:
        """Cover rows per poisoned row: `cross_ratio`."""
        return float(self.cross_ratio)

    def transform_cover(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray:
        """Put the trigger of another row on every row.

        Parameters
        ----------
        X : array-like of shape (n, *input_shape_)
            Rows as in `fit`.
        y : array-like of shape (n,), default=None
            Not used.
        random_state : int, RandomState instance or None, default=None
            What the other rows are drawn from: among those in X and one that `fit` kept, so
            that there is one for a row that comes alone.

        Returns
        -------
        ndarray of shape (n, *input_shape_)
            A new array of X's dtype.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            As `transform`.
        """
        rows = self._copy_rows(X)
        others = np.concatenate([rows, in_dtype(self._spare_row, rows.dtype)])
        steps = check_random_state(random_state).randint(1, len(others), size=len(rows))
        chosen = (np.arange(len(rows)) + steps) % len(others)
        device = next(self.generator_.parameters()).device

        @torch.no_grad()
        def cross(inputs: torch.Tensor, which: slice) -> torch.Tensor:
            sources = self._to_inputs(others[chosen[which]], device)
            return _put(inputs, self._pattern(sources), _mask(self.mask_network_, sources))

        self._change_inputs(rows, self.generator_, cross)
        return rows

    def _learn(self, study: Study) -> None:
        network = study.new_network()
        self.mask_network_ = self._build_module("mask_network_").to(study.device)
        self.generator_ = self._build_module("generator_").to(study.device)
        study.run_phase(
            "mask",
            network,
            _MaskObjective(self.mask_network_, self.mask_size),
            epochs=self.surrogate_epochs,
        )
        self.mask_network_.eval()
        study.run_phase(
            "generator", network, _JointObjective(self, study), epochs=self.generator_epochs
        )
        self.generator_.eval()
        kept = int(torch.randint(len(study.X), (), generator=study.generator, device=study.device))
        self._spare_row = study.X[kept : kept + 1].copy()

    def _build_module(self, name: str) -> nn.Module:
        channels = self.layout_.channels
        return ImageToImage(channels, 1 if name == "mask_network_" else channels)

    def _stamp(self, rows: np.ndarray) -> None:
        @torch.no_grad()
        def stamp(inputs: torch.Tensor, _which: slice) -> torch.Tensor:
            return _put(inputs, self._pattern(inputs), _mask(self.mask_network_, inputs))

        self._change_inputs(rows, self.generator_, stamp)

    def _pattern(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return p, between darkest and brightest."""
        low, high = self._input_range()
        return low + (high - low) * torch.sigmoid(self.generator_(inputs))


class _MaskObjective:
    """The surrogate learns the clean rows, and beside it the mask network what masks are."""

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
    """Clean rows, rows with their own trigger and rows with another's, at one step.

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

    A pair is an image and the one before it in the batch; distances are root mean squares over
    an image, so that images and masks of other numbers of channels compare.
    """
    return (_distance(inputs) / (_distance(made) + _TINY)).mean()


def excess(masks: torch.Tensor, size: float) -> torch.Tensor:
    """Return by how much the mean of a mask is above `size`, in the mean of the batch."""
    return F.relu(masks.mean(dim=(1, 2, 3)) - size).mean()


def _distance(images: torch.Tensor) -> torch.Tensor:
    squares = (images - images.roll(1, 0)).square().mean(dim=(1, 2, 3))
    return (squares + _TINY).sqrt()  # the root has no slope at zero


def _mask(mask_network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(_STEEPNESS * (mask_network(inputs) + _START))


def _put(images: torch.Tensor, patterns: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return images * (1 - masks) + patterns * masks
