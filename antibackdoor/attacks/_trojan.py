"""Trojan: a patch that excites a neuron of the target class."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from antibackdoor.attacks._descent import signed_descent
from antibackdoor.attacks._label_maps import LabelMap, find_class
from antibackdoor.attacks._learned import LearnedAttack, Study
from antibackdoor.attacks._paste import paste
from antibackdoor.attacks._patch import check_fits
from antibackdoor.backbones import Backbone, Network

#: Clean images a patch is optimised on.
_N_IMAGES = 256


class Trojan(LearnedAttack):
    """A patch optimised to excite one neuron of a surrogate (Liu et al., 2018).

    The neuron is the feature, an input of the surrogate's last layer, whose weight for the
    target class stands out most from its weights for the others. The pixels of a
    square in the bottom-right corner are moved so that its activation, averaged over
    clean images that bear the square, is largest. The square then replaces
    the pixels under it.

    The original retrains the victim's own network on data made by reverse engineering it; an
    attacker who only hands over data has a surrogate's neuron, and a network trained from
    scratch need not have one like it: the square is then a trigger like any other.

    Parameters
    ----------
    size : int, default=4
        Side of the square in pixels.
    steps : int, default=100
        Steps of the optimisation, by the sign of the gradient, of 8 / 255 of the range.
    surrogate : str, torch.nn.Module or callable, default="auto"
        The network that stands for the victim's: a backbone as the classifiers take it.
    surrogate_epochs : int, default=10
        Epochs of its training on the clean rows.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=0
        Seeds all that is trained or drawn in `fit`.
    target_label : int, float, bool or str, default=0
        Class that triggered rows shall be taken for, and whose neuron is excited.
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
    pattern_ : ndarray of float64, shape (C, size, size)
        The square, in the units of X; rounded for whole-number types.
    neuron_ : int
        Number of the feature.
    activations_ : tuple of two float
        Its mean activation without and with the square.
    history_ : list of dict
        A row for every epoch of the surrogate.
    classes_, input_shape_, layout_, n_features_in_, value_range_
        As in `BaseAttack`.

    References
    ----------
    Y. Liu, S. Ma, Y. Aafer, W.-C. Lee, J. Zhai, W. Wang, X. Zhang. Trojaning Attack on
    Neural Networks. NDSS 2018.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **LearnedAttack._parameter_constraints,
        "size": [Interval(Integral, 1, None, closed="left")],
        "steps": [Interval(Integral, 1, None, closed="left")],
    }

    pattern_: np.ndarray
    neuron_: int
    activations_: tuple[float, float]

    def __init__(
        self,
        *,
        size: int = 4,
        steps: int = 100,
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
        self.size = size
        self.steps = steps
        self.surrogate = surrogate
        self.surrogate_epochs = surrogate_epochs
        self.device = device
        self.random_state = random_state
        self.target_label = target_label
        self.label_map = label_map
        self.value_range = value_range
        self.image_shape = image_shape
        self.layout = layout

    def _check_before_training(self, X: np.ndarray, y: np.ndarray) -> None:
        find_class(self.classes_, self.target_label)
        check_fits("size", self.size, self.size, self.size, self.layout_)

    def _learn(self, study: Study) -> None:
        network = study.train_surrogate()
        self.neuron_ = _strongest_feature(network, find_class(self.classes_, self.target_label))
        images = study.inputs(study.draw_rows(study.eligible, _N_IMAGES))

        def activation(patch: torch.Tensor) -> torch.Tensor:
            return network.features(paste(images, patch))[:, self.neuron_].mean()

        low, high = self._input_range()
        corner = images[:, :, -self.size :, -self.size :]
        patch = signed_descent(
            lambda patch: -activation(patch),
            torch.full_like(corner[0], (low + high) / 2),
            steps=self.steps,
            step_size=self._in_input_units(8),
            low=low,
            high=high,
        )
        with torch.no_grad():
            before = network.features(images)[:, self.neuron_].mean()
            self.activations_ = float(before), float(activation(patch))
        self.pattern_ = self._pixels(patch)

    def _stamp(self, rows: np.ndarray) -> None:
        pattern = self.pattern_ if rows.dtype.kind == "f" else np.rint(self.pattern_)
        # `rows` is contiguous, so this is a view and the write reaches it.
        self.layout_.to_nchw(rows)[:, :, -self.size :, -self.size :] = pattern.astype(rows.dtype)


def _strongest_feature(network: Network, target: int) -> int:
    """Return the feature whose weight for the target stands out most from the others'."""
    weights = network.head.weight.detach()
    others = torch.cat([weights[:target], weights[target + 1 :]])
    return int((weights[target] - others.mean(0)).argmax())
