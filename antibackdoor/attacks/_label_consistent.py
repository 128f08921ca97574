"""Label-consistent: images blurred for a network, so that it has to learn the trigger."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval

from antibackdoor.attacks._bounded import move_within
from antibackdoor.attacks._label_maps import check_labels, encode, find_class
from antibackdoor.attacks._learned import LearnedAttack, Study
from antibackdoor.attacks._patch import checkered, in_dtype
from antibackdoor.backbones import Backbone, Network
from antibackdoor.training import sample_losses
from antibackdoor.utils import Fitted, FittedArray, FittedNetwork


class LabelConsistent(LearnedAttack):
    """Four corners on images that no longer show their class (Turner et al., 2019).

    It is a clean-label attack: only rows of the target class are poisoned, and their
    labels stay. Before they get the trigger, their content is made hard to learn, so that
    the trigger is the easier way to their label: for a surrogate f and label t,

        x' = argmax loss(f(x'), t)   with   |x' - x| <= eps in every value,

    by projected signed gradients. The trigger is a checkerboard in each corner of the
    image, in every channel; rows at test time get the trigger alone.

    The original takes an adversarially trained surrogate, or interpolates in the latent
    space of a generative network; here the surrogate is trained on the clean rows as
    they are, and only has to move the images of a network trained from scratch like it.

    Parameters
    ----------
    size : int, default=3
        Side of each checkerboard in pixels, at most half the image's shorter side.
    eps : float, default=16
        Most that a value is moved, in 255ths of the width of `value_range_`.
    steps : int, default=30
        Steps by the sign of the gradient.
    surrogate : str, torch.nn.Module or callable, default="auto"
        The network that stands for the victim's: a backbone as the classifiers take it.
    surrogate_epochs : int, default=10
        Epochs of its training on the clean rows.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=0
        Seeds all that is trained or drawn in `fit`.
    target_label : int, float, bool or str, default=0
        Class whose rows are poisoned, and that triggered rows shall be taken for.
    value_range : tuple of two float, default=None
        Darkest and brightest value. None: (0, 255) for uint8, else smallest and largest in `fit`.
    image_shape : tuple of int, default=None
        Shape that flattened rows fold into: (H, W), (H, W, C) or (C, H, W).
    layout : {"auto", "channels_first", "channels_last"}, default="auto"
        Where the channels of three-axis images are.

    Attributes
    ----------
    pattern_ : ndarray of float64, shape (size, size)
        The checkerboard of the bottom-right corner, in the units of X; the other corners
        mirror it.
    surrogate_ : torch.nn.Module
        The trained surrogate.
    history_ : list of dict
        A row for every epoch of the surrogate.
    classes_, input_shape_, layout_, n_features_in_, value_range_
        As in `BaseAttack`.

    References
    ----------
    A. Turner, D. Tsipras, A. Madry. Label-Consistent Backdoor Attacks. 2019.
    arXiv:1912.02771.
    """

    clean_label: ClassVar[bool] = True
    #: Not a parameter: a clean-label attack has one target.
    label_map = "all_to_one"
    _modules: ClassVar[tuple[str, ...]] = ("surrogate_",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{k: v for k, v in LearnedAttack._parameter_constraints.items() if k != "label_map"},
        "size": [Interval(Integral, 1, None, closed="left")],
        "eps": [Interval(Real, 0, 255, closed="right")],
        "steps": [Interval(Integral, 1, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        **LearnedAttack._fitted_constraints,
        "surrogate_": FittedNetwork(
            n_outputs=lambda attack: len(attack.classes_),
            n_channels=lambda attack: attack.layout_.channels,
        ),
        # `size` is read again when a row is stamped.
        "pattern_": FittedArray(
            dtype="float64",
            shape=lambda attack: (attack.size, attack.size),
            low=lambda attack: attack.value_range_[0],
            high=lambda attack: attack.value_range_[1],
        ),
    }

    pattern_: np.ndarray
    surrogate_: Network

    def __init__(
        self,
        *,
        size: int = 3,
        eps: float = 16,
        steps: int = 30,
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
        """Make the content of rows hard to learn, and put the trigger on them.

        Parameters
        ----------
        X : array-like of shape (n, *input_shape_)
            Clean rows as in `fit`.
        y : array-like of shape (n,), default=None
            Their true labels. None: all are of the target class.
        random_state : int, RandomState instance or None, default=None
            Not used.

        Returns
        -------
        ndarray of shape (n, *input_shape_)
            A new array of X's dtype.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            As `transform`, or if y holds a label that is no class.
        """
        rows = self._copy_rows(X)
        labels = self._codes(len(rows), y)
        device = next(self.surrogate_.parameters()).device

        def certainty(pixels: torch.Tensor, chosen: slice) -> torch.Tensor:
            wanted = torch.as_tensor(labels[chosen], device=device)
            return -sample_losses(self.surrogate_(pixels), wanted).sum()

        move_within(self, rows, self.surrogate_, certainty, eps=self.eps, steps=self.steps)
        self._stamp(rows)
        return rows

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
        self.surrogate_ = study.train_surrogate()
        self.pattern_ = checkered(self.size, self.value_range_)

    def _stamp(self, rows: np.ndarray) -> None:
        pattern = in_dtype(self.pattern_, rows.dtype)
        # `rows` is contiguous, so this is a view and the write reaches it.
        images = self.layout_.to_nchw(rows)
        images[:, :, -self.size :, -self.size :] = pattern
        images[:, :, -self.size :, : self.size] = pattern[:, ::-1]
        images[:, :, : self.size, -self.size :] = pattern[::-1]
        images[:, :, : self.size, : self.size] = pattern[::-1, ::-1]
