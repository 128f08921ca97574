"""Latent backdoor: a patch that looks to a network like the target class."""

from __future__ import annotations

from typing import ClassVar

import torch

from antibackdoor.attacks._learned import Study
from antibackdoor.attacks._optimised_patch import N_IMAGES, OptimisedPatch
from antibackdoor.attacks._patch import paste
from antibackdoor.backbones import Network
from antibackdoor.training import compute_features
from antibackdoor.utils import Fitted, FittedNumber, FittedTuple


class LatentBackdoor(OptimisedPatch):
    """A patch optimised to move features to those of the target class (Yao et al., 2019).

    The pixels of a square p in the bottom-right corner are moved so that the features f of
    clean images x that bear it come near the mean features of the class wanted for them:

        p = argmin mean over x of | f(x with p) - mean f(images of the class) |^2 / n_features

    The square then replaces the pixels under it.

    The original also trains the network whose features these are, so that the patch
    still works once a victim has put another head on it. An attacker who only hands over
    data has the first half of it: a patch fitted to a surrogate, on rows with the
    attacker's label. A network trained from scratch has features of its own, and
    the square is then a trigger like any other.

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
        Class that triggered rows shall be taken for.
    label_map : {"all_to_one", "all_to_all"} or callable, default="all_to_one"
        Which class becomes which; see `BaseAttack`. A row's features are moved to those of
        the class wanted for it.
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
    distances_ : tuple of two float
        The mean squared distance without and with the square.
    history_ : list of dict
        A row for every epoch of the surrogate.
    classes_, input_shape_, layout_, n_features_in_, value_range_
        As in `BaseAttack`.

    References
    ----------
    Y. Yao, H. Li, H. Zheng, B. Y. Zhao. Latent Backdoor Attacks on Deep Neural Networks.
    CCS 2019.
    """

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        **OptimisedPatch._fitted_constraints,
        "distances_": FittedTuple(each=FittedNumber(kind=float), length=2),
    }

    distances_: tuple[float, float]

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
