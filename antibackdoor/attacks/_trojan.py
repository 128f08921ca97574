"""Trojan: a patch that excites a neuron of the target class."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from antibackdoor.attacks._label_maps import find_class
from antibackdoor.attacks._learned import Study
from antibackdoor.attacks._optimised_patch import N_IMAGES, OptimisedPatch
from antibackdoor.attacks._patch import paste
from antibackdoor.backbones import Network
from antibackdoor.utils import Fitted, FittedNumber, FittedTuple


class Trojan(OptimisedPatch):
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

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        **OptimisedPatch._fitted_constraints,
        "neuron_": FittedNumber(kind=int, low=0),
        "activations_": FittedTuple(each=FittedNumber(kind=float), length=2),
    }

    neuron_: int
    activations_: tuple[float, float]

    def _check_before_training(self, X: np.ndarray, y: np.ndarray) -> None:
        find_class(self.classes_, self.target_label)
        super()._check_before_training(X, y)

    def _learn(self, study: Study) -> None:
        network = self._train_surrogate(study)
        self.neuron_ = _strongest_feature(network, find_class(self.classes_, self.target_label))
        images = study.inputs(study.draw_rows(study.eligible, N_IMAGES))

        def activation(patch: torch.Tensor) -> torch.Tensor:
            return network.features(paste(images, patch))[:, self.neuron_].mean()

        patch = self._optimise(lambda patch: -activation(patch), study.device)
        with torch.no_grad():
            before = network.features(images)[:, self.neuron_].mean()
            self.activations_ = float(before), float(activation(patch))
        self.pattern_ = self._pixels(patch)


def _strongest_feature(network: Network, target: int) -> int:
    """Return the feature whose weight for the target stands out most from the others'."""
    weights = network.head.weight.detach()
    others = torch.cat([weights[:target], weights[target + 1 :]])
    return int((weights[target] - others.mean(0)).argmax())
