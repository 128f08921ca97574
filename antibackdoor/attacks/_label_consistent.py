"""Label-consistent: images made hard to classify, so that a network learns the trigger."""

from __future__ import annotations

from dataclasses import field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval

from antibackdoor.attacks._bounded import move_within
from antibackdoor.attacks._label_maps import check_labels, encode, find_class
from antibackdoor.attacks._learned import LearnedAttack
from antibackdoor.attacks._patch import SQUARE_PATTERN, checkered, in_dtype
from antibackdoor.attacks._study import Study
from antibackdoor.backbones import Network
from antibackdoor.training import sample_losses
from antibackdoor.utils import Fitted, FittedNetwork, parameters


@parameters
class LabelConsistent(LearnedAttack):
    """Clean-label poison: patches in four corners of images made hard (Turner et al., 2019).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="cl")

    Only rows of the target class are poisoned, and they keep their labels. Before they get the
    trigger, their content is made hard to learn, so that the trigger is the easier way to their
    label. For a surrogate f and label t,

        x' = argmax loss(f(x'), t)   with   |x' - x| <= eps in every value,

    by projected signed gradients. The trigger is a checkerboard in each corner of the image, in
    every channel. Rows at test time get the trigger alone.

    The paper takes an adversarially trained surrogate, or interpolates in the latent space of a
    generative network. Here the surrogate is trained plainly on the clean rows. It only has to
    make images hard for a similar network trained from scratch.

    Parameters
    ----------
    size : int, default=3
        Side of each checkerboard in pixels, at most half the image's shorter side.
    eps : float, default=16
        Largest change of a value, in 255ths of the width of `value_range_`.
    steps : int, default=30
        Number of steps along the sign of the gradient.
    surrogate, surrogate_epochs, device, random_state
    target_label : int, float, bool or str, default=0
        Class whose rows are poisoned, and that the network shall predict for triggered rows.
    value_range, image_shape, layout

    Attributes
    ----------
    pattern_ : ndarray of float64, shape (size, size)
        The checkerboard of the bottom-right corner, in the units of X; the other corners
        mirror it.
    surrogate_ : torch.nn.Module
        The trained surrogate.
    history_ : list of dict
        One entry for each epoch of the surrogate.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    A. Turner, D. Tsipras, A. Madry. Label-Consistent Backdoor Attacks. 2019.
    arXiv:1912.02771.

    Examples
    --------
    >>> from antibackdoor.attacks import LabelConsistent
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> attack = LabelConsistent(steps=5, surrogate_epochs=1).fit(X[:200], y[:200])
    >>> attack.transform_training(X[y == 0][:5]).shape
    (5, 8, 8)
    """

    size: int = 3
    eps: float = 16
    steps: int = 30

    clean_label: ClassVar[bool] = True
    #: Not a parameter: a clean-label attack has one target.
    label_map: str = field(init=False, default="all_to_one")
    _modules: ClassVar[tuple[str, ...]] = ("surrogate_",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "size": [Interval(Integral, 1, None, closed="left")],
        "eps": [Interval(Real, 0, 255, closed="right")],
        "steps": [Interval(Integral, 1, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "surrogate_": FittedNetwork(
            n_outputs=lambda attack: len(attack.classes_),
            n_channels=lambda attack: attack.layout_.channels,
        ),
        "pattern_": SQUARE_PATTERN,
    }

    pattern_: np.ndarray = field(init=False)
    surrogate_: Network = field(init=False)

    def _stamp_training(
        self, rows: np.ndarray, y: ArrayLike | None, rng: np.random.RandomState
    ) -> None:
        """Make the content of rows hard to learn, and put the trigger on them.

        Without labels, all are of the target class.
        """
        labels = self._codes(len(rows), y)
        device = next(self.surrogate_.parameters()).device

        def certainty(pixels: torch.Tensor, chosen: slice) -> torch.Tensor:
            wanted = torch.as_tensor(labels[chosen], device=device)
            return -sample_losses(self.surrogate_(pixels), wanted).sum()

        move_within(self, rows, self.surrogate_, certainty, eps=self.eps, steps=self.steps)
        self._stamp(rows)

    def _codes(self, n_rows: int, y: ArrayLike | None) -> np.ndarray:
        if y is None:
            return np.full(n_rows, find_class(self.classes_, self.target_label))
        return encode(check_labels(y), self.classes_)

    def _check_before_training(self, X: np.ndarray, y: np.ndarray) -> None:
        find_class(self.classes_, self.target_label)
        shortest = min(self.layout_.height, self.layout_.width)
        if 2 * self.size > shortest:
            raise ValueError(
                f"size={self.size}: four corners of that size would overlap in the images in X, "
                f"which are {self.layout_.height} pixels high and {self.layout_.width} wide; "
                f"wanted {shortest // 2} at most."
            )

    def _learn(self, study: Study) -> None:
        self.surrogate_ = self._train_surrogate(study)
        self.pattern_ = checkered(self.size, self.value_range_)

    def _stamp(self, rows: np.ndarray) -> None:
        pattern = in_dtype(self.pattern_, rows.dtype)
        # `rows` is contiguous, so this is a view and the write reaches it.
        images = self.layout_.to_nchw(rows)
        images[:, :, -self.size :, -self.size :] = pattern
        images[:, :, -self.size :, : self.size] = pattern[:, ::-1]
        images[:, :, : self.size, -self.size :] = pattern[::-1]
        images[:, :, : self.size, : self.size] = pattern[::-1, ::-1]
