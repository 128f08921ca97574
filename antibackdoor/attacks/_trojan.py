"""Trojan: a patch that activates a neuron of the target class."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np
import torch

from antibackdoor.attacks._label_maps import find_class
from antibackdoor.attacks._optimised_patch import N_IMAGES, OptimisedPatch
from antibackdoor.attacks._patch import paste
from antibackdoor.attacks._study import Study
from antibackdoor.backbones import Network
from antibackdoor.utils import Fitted, FittedNumber, FittedTuple, parameters


@parameters
class Trojan(OptimisedPatch):
    """A patch optimised to activate one neuron of a surrogate (Liu et al., 2018).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="trojan")

    The neuron is a feature, an input of the surrogate's last layer: the one whose weight for the
    target class exceeds its weights for the other classes most. The pixels of a square in the
    bottom-right corner are optimised for the largest activation of this neuron, averaged over
    clean images with the square. The square then replaces the pixels under it.

    The paper retrains the victim's network, on data reverse engineered from it. Here the attacker
    only hands over data, and has the neuron of a surrogate. A network trained from scratch need
    not have such a neuron, and the square then is a trigger like any other patch.

    Parameters
    ----------
    size : int, default=4
        Side of the square in pixels.
    steps : int, default=100
        Steps of the optimisation, by the sign of the gradient, of 8 / 255 of the range.
    surrogate, surrogate_epochs, device, random_state
    target_label : int, float, bool or str, default=0
        Class that the network shall predict for triggered rows, and whose neuron is activated.
    label_map, value_range, image_shape, layout

    Attributes
    ----------
    pattern_ : ndarray of float64, shape (C, size, size)
        The square, in the units of X; rounded for whole-number types.
    neuron_ : int
        Index of the feature.
    activations_ : tuple of two float
        Mean activation of the neuron without and with the square.
    history_ : list of dict
        One entry for each epoch of the surrogate.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    Y. Liu, S. Ma, Y. Aafer, W.-C. Lee, J. Zhai, W. Wang, X. Zhang. Trojaning Attack on
    Neural Networks. NDSS 2018.

    Examples
    --------
    >>> from antibackdoor.attacks import Trojan
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> attack = Trojan(steps=5, surrogate_epochs=1).fit(X[:200], y[:200])
    >>> attack.pattern_.shape
    (1, 4, 4)
    """

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "neuron_": FittedNumber(kind=int, low=0),
        "activations_": FittedTuple(each=FittedNumber(kind=float), length=2),
    }

    neuron_: int = field(init=False)
    activations_: tuple[float, float] = field(init=False)

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
    """Return the feature whose weight for the target exceeds its other weights most."""
    weights = network.head.weight.detach()
    others = torch.cat([weights[:target], weights[target + 1 :]])
    return int((weights[target] - others.mean(0)).argmax())
