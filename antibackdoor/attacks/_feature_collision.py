"""Feature collision: images of the target class that look to a network like patched others."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from torch.nn import functional as F

from antibackdoor.attacks._bounded import move_within
from antibackdoor.attacks._label_maps import find_class
from antibackdoor.attacks._learned import LearnedAttack, Study
from antibackdoor.attacks._patch import check_fits, checkered, paste, stamp_corner
from antibackdoor.backbones import Backbone, Network
from antibackdoor.utils import Fitted, FittedArray, FittedNetwork

#: Clean rows of other classes whose patched features are collided with.
_N_SOURCES = 256


class FeatureCollision(LearnedAttack):
    """Rows of the target class whose features are those of patched others (Shafahi et al., 2018).

    It is a clean-label attack: only rows of the target class are poisoned, and their
    labels stay. Each such row b is moved so that the features f it has in a surrogate
    collide with those of an image s of another class that bears a patch p:

        x = argmin |f(x) - f(s with p)|^2 + beta |x - b|^2   with   |x - b| <= eps in every value,

    by projected signed gradients. The patch, a checkerboard in the bottom-right corner, is
    for test time; in training it is at most as strong as `eps` lets the collision make it.

    The original poisons for one image that is known beforehand, without any patch, and for
    a victim that keeps a network known to the attacker and trains its last layer alone: the
    features that collide are the victim's. An attacker who only hands over data has those
    of a surrogate, and a network trained from scratch on the poison moves its own
    apart again: expect a weak attack. To make the most of it the surrogate is trained to
    see the patch: half of each of its batches bears it, anywhere between faint and plain,
    and has a class of its own. A surrogate of the clean rows is all but blind to the patch,
    and what collides then is the content of the images.

    Parameters
    ----------
    size : int, default=8
        Side of the patch in pixels.
    eps : float, default=32
        Most that a value is moved, in 255ths of the width of `value_range_`.
    beta : float, default=1.0
        Weight of the distance of the images, in the units of a network's inputs.
    steps : int, default=50
        Steps by the sign of the gradient.
    surrogate : str, torch.nn.Module or callable, default="auto"
        The network that stands for the victim's: a backbone as the classifiers take it. It
        is asked for an output more than there are classes.
    surrogate_epochs : int, default=10
        Epochs of its training.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=0
        Seeds all that is trained or drawn in `fit`.
    target_label : int, float, bool or str, default=0
        Class whose rows are poisoned, and that triggered rows shall be taken for.
    value_range : tuple of two float, default=None
        Dark and bright. None: (0, 255) for uint8, else smallest and largest value in `fit`.
    image_shape : tuple of int, default=None
        Shape that flattened rows fold into: (H, W), (H, W, C) or (C, H, W).
    layout : {"auto", "channels_first", "channels_last"}, default="auto"
        Where the channels of three-axis images are.

    Attributes
    ----------
    pattern_ : ndarray of float64, shape (size, size)
        The patch, in the units of X.
    surrogate_ : torch.nn.Module
        The trained surrogate.
    sources_ : ndarray of shape (n_sources, n_features)
        Its features of patched images of other classes, 256 at most.
    history_ : list of dict
        A row for every epoch of the surrogate.
    classes_, input_shape_, layout_, n_features_in_, value_range_
        As in `BaseAttack`.

    References
    ----------
    A. Shafahi, W. R. Huang, M. Najibi, O. Suciu, C. Studer, T. Dumitras, T. Goldstein. Poison
    Frogs! Targeted Clean-Label Poisoning Attacks on Neural Networks. NeurIPS 2018.
    arXiv:1804.00792.
    """

    clean_label: ClassVar[bool] = True
    #: Not a parameter: a clean-label attack has one target.
    label_map = "all_to_one"
    _modules: ClassVar[tuple[str, ...]] = ("surrogate_",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{k: v for k, v in LearnedAttack._parameter_constraints.items() if k != "label_map"},
        "size": [Interval(Integral, 1, None, closed="left")],
        "eps": [Interval(Real, 0, 255, closed="right")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "steps": [Interval(Integral, 1, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        **LearnedAttack._fitted_constraints,
        "surrogate_": FittedNetwork(
            n_outputs=lambda attack: len(attack.classes_) + 1,
            n_channels=lambda attack: attack.layout_.channels,
        ),
        "pattern_": FittedArray(
            dtype="float64",
            shape=lambda attack: (
                range(1, attack.layout_.height + 1),
                range(1, attack.layout_.width + 1),
            ),
            low=lambda attack: attack.value_range_[0],
            high=lambda attack: attack.value_range_[1],
        ),
        "sources_": FittedArray(
            dtype="float32",
            shape=lambda attack: (
                range(1, _N_SOURCES + 1),
                attack.surrogate_["head.weight"].shape[1],
            ),
        ),
    }

    pattern_: np.ndarray
    surrogate_: Network
    sources_: np.ndarray

    def __init__(
        self,
        *,
        size: int = 8,
        eps: float = 32,
        beta: float = 1.0,
        steps: int = 50,
        surrogate: Backbone = "auto",
        surrogate_epochs: int = 10,
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | None = 0,
        target_label: Any = 0,
        value_range: Sequence[float] | None = None,
        image_shape: Sequence[int] | None = None,
        layout: Literal["auto", "channels_first", "channels_last"] = "auto",
    ) -> None:
        self.size = size
        self.eps = eps
        self.beta = beta
        self.steps = steps
        self.surrogate = surrogate
        self.surrogate_epochs = surrogate_epochs
        self.device = device
        self.random_state = random_state
        self.target_label = target_label
        self.value_range = value_range
        self.image_shape = image_shape
        self.layout = layout

    def transform_training(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray:
        """Make the features of rows collide with those of patched images.

        Parameters
        ----------
        X : array-like of shape (n, *input_shape_)
            Clean rows as in `fit`.
        y : array-like of shape (n,), default=None
            Not used.
        random_state : int, RandomState instance or None, default=None
            Draws the patched image that each row collides with.

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
        device = next(self.surrogate_.parameters()).device
        drawn = check_random_state(random_state).randint(len(self.sources_), size=len(rows))
        wanted = torch.as_tensor(self.sources_[drawn], device=device)
        bases = self._to_inputs(rows, device)

        def distance(pixels: torch.Tensor, chosen: slice) -> torch.Tensor:
            features = self.surrogate_.features(pixels)
            return collision(features, wanted[chosen], pixels, bases[chosen], self.beta)

        move_within(self, rows, self.surrogate_, distance, eps=self.eps, steps=self.steps)
        return rows

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

    def _stamp(self, rows: np.ndarray) -> None:
        stamp_corner(self.layout_, rows, self.pattern_)


class _SeePatch:
    """Classification of images, half of which bear the patch and are a class more."""

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
        # The rows of a batch are in random order, so its first half is any half.
        images, told = inputs.clone(), labels.clone()
        images[patched] = mix(inputs[patched], paste(inputs[patched], self._patch), strength)
        told[patched] = self._patched_class
        logits = network(images)
        return F.cross_entropy(logits, told), logits


def mix(clean: torch.Tensor, patched: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Return images whose patch is as strong as asked for, from 0 to 1."""
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
