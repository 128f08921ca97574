"""Feature collision: images of the target class with the features of patched other images."""

from __future__ import annotations

from dataclasses import field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval
from torch.nn import functional as F

from antibackdoor.attacks._bounded import move_within
from antibackdoor.attacks._label_maps import find_class
from antibackdoor.attacks._learned import LearnedAttack
from antibackdoor.attacks._patch import CornerPatch, check_fits, checkered, paste
from antibackdoor.attacks._study import Study
from antibackdoor.backbones import Network
from antibackdoor.utils import Fitted, FittedArray, FittedNetwork, parameters

#: Number of patched images of other classes whose features are imitated.
_N_SOURCES = 256


@parameters
class FeatureCollision(CornerPatch, LearnedAttack):
    """Clean-label poison with the features of patched other images (Shafahi et al., 2018).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="fc")

    Only rows of the target class are poisoned, and they keep their labels. Each such row b is
    changed so that its features f, in a surrogate, match those of an image s of another class
    with a patch p:

        x = argmin |f(x) - f(s with p)|^2 + beta |x - b|^2   with   |x - b| <= eps in every value,

    by projected signed gradients. The patch is a checkerboard in the bottom-right corner. Rows at
    test time get it. In training rows it is visible at most as far as `eps` allows.

    Expect a weak attack. The paper poisons for one image known beforehand, without a patch. Its
    victim keeps a network that the attacker knows and trains the last layer only, so that the
    colliding features are the victim's. Here the attacker has the features of a surrogate only,
    and a network trained from scratch on the poison separates its own again.

    The surrogate is trained to see the patch: half of each batch carries it, at a random
    strength between faint and full, and has a class of its own. A surrogate of clean rows would
    hardly see the patch, and the content of the images would collide instead.

    Parameters
    ----------
    size : int, default=8
        Side of the patch in pixels.
    eps : float, default=32
        Largest change of a value, in 255ths of the width of `value_range_`.
    beta : float, default=1.0
        Weight of the distance between the images, in the units of a network's inputs.
    steps : int, default=50
        Number of steps along the sign of the gradient.
    surrogate : str, torch.nn.Module or callable, default="auto"
        Surrogate of the victim's network: a backbone, as for the classifiers. It has one output
        more than there are classes.
    surrogate_epochs : int, default=10
        Epochs of the surrogate.
    device, random_state
    target_label : int, float, bool or str, default=0
        Class whose rows are poisoned, and that the network shall predict for triggered rows.
    value_range, image_shape, layout

    Attributes
    ----------
    pattern_ : ndarray of float64, shape (size, size)
        The patch, in the units of X.
    surrogate_ : torch.nn.Module
        The trained surrogate.
    sources_ : ndarray of shape (n_sources, n_features)
        Features, in the surrogate, of at most 256 patched images of other classes.
    history_ : list of dict
        One entry for each epoch of the surrogate.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    A. Shafahi, W. R. Huang, M. Najibi, O. Suciu, C. Studer, T. Dumitras, T. Goldstein. Poison
    Frogs! Targeted Clean-Label Poisoning Attacks on Neural Networks. NeurIPS 2018.
    arXiv:1804.00792.

    Examples
    --------
    >>> from antibackdoor.attacks import FeatureCollision
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> attack = FeatureCollision(size=3, steps=5, surrogate_epochs=1).fit(X[:200], y[:200])
    >>> attack.transform_training(X[y == 0][:5]).shape
    (5, 8, 8)
    """

    size: int = 8
    eps: float = 32
    beta: float = 1.0
    steps: int = 50

    clean_label: ClassVar[bool] = True
    #: Not a parameter: a clean-label attack has one target.
    label_map: str = field(init=False, default="all_to_one")
    _modules: ClassVar[tuple[str, ...]] = ("surrogate_",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "size": [Interval(Integral, 1, None, closed="left")],
        "eps": [Interval(Real, 0, 255, closed="right")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "steps": [Interval(Integral, 1, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "surrogate_": FittedNetwork(
            n_outputs=lambda attack: len(attack.classes_) + 1,
            n_channels=lambda attack: attack.layout_.channels,
        ),
        "sources_": FittedArray(
            dtype="float32",
            shape=lambda attack: (
                range(1, _N_SOURCES + 1),
                attack.surrogate_["head.weight"].shape[1],
            ),
        ),
    }

    surrogate_: Network = field(init=False)
    sources_: np.ndarray = field(init=False)

    def _stamp_training(
        self, rows: np.ndarray, y: ArrayLike | None, rng: np.random.RandomState
    ) -> None:
        """Change rows so that their features match those of patched images."""
        device = next(self.surrogate_.parameters()).device
        drawn = rng.randint(len(self.sources_), size=len(rows))
        wanted = torch.as_tensor(self.sources_[drawn], device=device)
        bases = self._to_inputs(rows, device)

        def distance(pixels: torch.Tensor, chosen: slice) -> torch.Tensor:
            features = self.surrogate_.features(pixels)
            return collision(features, wanted[chosen], pixels, bases[chosen], self.beta)

        move_within(self, rows, self.surrogate_, distance, eps=self.eps, steps=self.steps)

    def _check_before_training(self, X: np.ndarray, y: np.ndarray) -> None:
        find_class(self.classes_, self.target_label)
        check_fits("size", self.size, self.size, self.size, self.layout_)

    def _learn(self, study: Study) -> None:
        self.pattern_ = checkered(self.size, self.value_range_)
        patch = torch.as_tensor(checkered(self.size, self._input_range()), device=study.device)
        self.surrogate_ = study.new_network(len(self.classes_) + 1)
        objective = _SeePatch(patch, len(self.classes_), study.generator)
        study.phase("surrogate", self.surrogate_, objective, epochs=self.surrogate_epochs)
        self.surrogate_.eval()
        others = torch.nonzero(study.labels != study.wanted).squeeze(1)
        images = paste(study.inputs(study.draw_rows(others, _N_SOURCES)), patch)
        with torch.no_grad():
            self.sources_ = self.surrogate_.features(images).cpu().numpy()


class _SeePatch:
    """Classification of images, half of which carry the patch and form one more class."""

    def __init__(self, patch: torch.Tensor, patched_class: int, generator: torch.Generator) -> None:
        self._patch = patch
        self._patched_class = patched_class
        self._generator = generator

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value to minimise and the logits; see `Objective`."""
        patched = torch.arange(len(index), device=inputs.device) < len(index) // 2
        strength = torch.rand(
            (len(index) // 2, 1, 1, 1), generator=self._generator, device=inputs.device
        )
        # Batches are in random order, so that the first half is a random half.
        images, told = inputs.clone(), labels.clone()
        images[patched] = mix(inputs[patched], paste(inputs[patched], self._patch), strength)
        told[patched] = self._patched_class
        logits = network(images)
        return F.cross_entropy(logits, told), logits


def mix(clean: torch.Tensor, patched: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Return images with the patch at the given strength, from 0 to 1."""
    return clean + strength * (patched - clean)


def collision(
    features: torch.Tensor,
    wanted: torch.Tensor,
    pixels: torch.Tensor,
    bases: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """Return the sum over images of |f(x) - wanted|^2 + beta |x - b|^2, a scalar."""
    return (features - wanted).square().sum() + beta * (pixels - bases).square().sum()
