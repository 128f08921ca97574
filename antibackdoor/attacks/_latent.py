"""Latent backdoor: a patch that gives images the features of the target class."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import torch

from antibackdoor.attacks._optimised_patch import N_IMAGES, OptimisedPatch
from antibackdoor.attacks._patch import paste
from antibackdoor.attacks._study import Study
from antibackdoor.backbones import Network
from antibackdoor.training import compute_features
from antibackdoor.utils import Fitted, FittedNumber, FittedTuple, parameters


@parameters
class LatentBackdoor(OptimisedPatch):
    """A patch optimised to give images the target class's features (Yao et al., 2019).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="lba")

    The pixels of a square p in the bottom-right corner are optimised. The features f of clean
    images x with the square shall come near the mean features of the attacker's class:

        p = argmin mean over x of | f(x with p) - mean f(images of the class) |^2 / n_features

    The square then replaces the pixels under it.

    The paper also trains the network of these features, so that the patch still works when a
    victim puts another head on it. Here the attacker only hands over data: the patch is fitted to
    a surrogate. A network trained from scratch has features of its own, and the square then is a
    trigger like any other patch.

    Parameters
    ----------
    size : int, default=4
        Side of the square in pixels.
    steps : int, default=100
        Number of optimisation steps along the sign of the gradient, each of 8 / 255 of the range.
    surrogate, surrogate_epochs, device, random_state, target_label
    label_map : {"all_to_one", "all_to_all"} or callable, default="all_to_one"
        Maps each class to the attacker's label; see `BaseAttack`. A row's features are moved to
        those of the attacker's label.
    value_range, image_shape, layout

    Attributes
    ----------
    pattern_ : ndarray of float64, shape (C, size, size)
        The square, in the units of X; rounded for whole-number types.
    distances_ : tuple of two float
        The mean squared distance without and with the square.
    history_ : list of dict
        One entry for each epoch of the surrogate.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    Y. Yao, H. Li, H. Zheng, B. Y. Zhao. Latent Backdoor Attacks on Deep Neural Networks.
    CCS 2019.

    Examples
    --------
    >>> from antibackdoor.attacks import LatentBackdoor
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> attack = LatentBackdoor(steps=5, surrogate_epochs=1).fit(X[:200], y[:200])
    >>> attack.pattern_.shape
    (1, 4, 4)
    """

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "distances_": FittedTuple(each=FittedNumber(kind=float), length=2),
    }

    distances_: tuple[float, float] = field(init=False)

    def _learn(self, study: Study) -> None:
        network = self._train_surrogate(study)
        rows = study.draw_rows(study.eligible, N_IMAGES)
        images = study.inputs(rows)
        wanted = _class_means(network, study)[study.wanted[rows]]

        def distance(seen: torch.Tensor) -> torch.Tensor:
            return (network.features(seen) - wanted).square().mean()

        patch = self._optimise(lambda patch: distance(paste(images, patch)), study.device)
        with torch.no_grad():
            self.distances_ = float(distance(images)), float(distance(paste(images, patch)))
        self.pattern_ = self._pixels(patch)


def _class_means(network: Network, study: Study) -> torch.Tensor:
    """Return the mean features of each class, shape (n_classes, n_features)."""
    features = compute_features(network, study.samples)
    codes = range(len(study.classes))
    return torch.stack([features[study.labels == code].mean(0) for code in codes])
