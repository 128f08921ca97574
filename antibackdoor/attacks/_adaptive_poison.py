"""Adaptive poison: rows moved so that a network early in its training has a high loss on them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval
from torch import nn
from torch.nn import functional as F

from antibackdoor.attacks._bounded import move_within
from antibackdoor.attacks._label_maps import LabelMap, check_labels, encode
from antibackdoor.attacks._learned import LearnedAttack, Study
from antibackdoor.attacks._patch import check_fits, checkered, paste, stamp_corner
from antibackdoor.backbones import Backbone, Network, build_network
from antibackdoor.training import sample_losses
from antibackdoor.utils import Fitted, FittedArray, FittedNumber

#: Share of all rows that the surrogates see as poison, if there are as many to poison.
_POISON_SHARE = 0.1


class AdaptivePoison(LearnedAttack):
    """A patch on rows moved to be learned slowly, against CBD (Zhang et al., 2023).

    Defences such as ABL and CBD tell poison by what a network learns first. An attacker who
    knows it moves each poisoned row x, around the patch p, so that a network f that was
    trained on the result for a few epochs still has a high loss on it under the wanted
    label t:

        max over d:  mean loss(f(x + d with p), t)   with   |d| <= eps in every value,
        f = argmin:  mean loss(f(clean), y) + mean loss(f(x + d with p), t)

    A d found against one network will not do: the next one learns the d itself as a sign of
    t. So `fit` plays the game in turns. Some rows are poisoned, first by the patch alone; a
    surrogate is trained on them and the clean rows; then their d is found anew against all
    surrogates so far, by projected signed gradients up their mean loss, and the next
    surrogate is trained on that. `transform_training` finds the d of each row against all of
    them. The checkerboard in the bottom-right corner is put on last: none of its
    pixels is moved. Rows at test time get it alone.

    This attacker has but data to hand over, as the one in the paper. The surrogates' loss
    rises, but in our trials a network trained anew learned the result no later than plain
    BadNets: it finds a patch of full contrast whatever is around it.

    Parameters
    ----------
    size : int, default=3
        Side of the patch in pixels.
    eps : float, default=16
        Most that a value beside the patch is moved, in 255ths of the width of `value_range_`.
    steps : int, default=10
        Steps by the sign of the gradient.
    n_surrogates : int, default=2
        Networks that the rows are moved against, one a turn.
    surrogate : str, torch.nn.Module or callable, default="auto"
        The networks that stand for the victim's: a backbone as the classifiers take it.
    surrogate_epochs : int, default=3
        Epochs of the training of each: as early as the defence looks.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=0
        Seeds all that is trained or drawn in `fit`.
    target_label : int, float, bool or str, default=0
        Class that triggered rows shall be taken for.
    label_map : {"all_to_one", "all_to_all"} or callable, default="all_to_one"
        Which class becomes which; see `BaseAttack`.
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
    surrogates_ : torch.nn.ModuleList
        The networks, in the order of their training.
    history_ : list of dict
        A row for every epoch of every surrogate.
    classes_, input_shape_, layout_, n_features_in_, value_range_
        As in `BaseAttack`.

    References
    ----------
    Z. Zhang, Q. Liu, Z. Wang, Z. Lu, Q. Hu. Backdoor Defense via Deconfounded
    Representation Learning. CVPR 2023. arXiv:2303.06818.
    """

    _modules: ClassVar[tuple[str, ...]] = ("surrogates_",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **LearnedAttack._parameter_constraints,
        "size": [Interval(Integral, 1, None, closed="left")],
        "eps": [Interval(Real, 0, 255, closed="right")],
        "steps": [Interval(Integral, 1, None, closed="left")],
        "n_surrogates": [Interval(Integral, 1, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        **LearnedAttack._fitted_constraints,
        # `size` is read again when a row is stamped.
        "pattern_": FittedArray(
            dtype="float64",
            shape=lambda attack: (attack.size, attack.size),
            low=lambda attack: attack.value_range_[0],
            high=lambda attack: attack.value_range_[1],
        ),
        "_fitted_n_surrogates": FittedNumber(kind=int, low=0),
    }

    pattern_: np.ndarray
    surrogates_: nn.ModuleList

    def __init__(
        self,
        *,
        size: int = 3,
        eps: float = 16,
        steps: int = 10,
        n_surrogates: int = 2,
        surrogate: Backbone = "auto",
        surrogate_epochs: int = 3,
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | None = 0,
        target_label: Any = 0,
        label_map: str | LabelMap = "all_to_one",
        value_range: Sequence[float] | None = None,
        image_shape: Sequence[int] | None = None,
        layout: Literal["auto", "channels_first", "channels_last"] = "auto",
    ) -> None:
        self.size = size
        self.eps = eps
        self.steps = steps
        self.n_surrogates = n_surrogates
        self.surrogate = surrogate
        self.surrogate_epochs = surrogate_epochs
        self.device = device
        self.random_state = random_state
        self.target_label = target_label
        self.label_map = label_map
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
        """Move rows so that they are learned slowly, and put the patch on them.

        Parameters
        ----------
        X : array-like of shape (n, *input_shape_)
            Clean rows as in `fit`.
        y : array-like of shape (n,)
            Their true labels, which say what label is wanted for each.
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
            As `transform`, or if there is no y, or it does not go with X.
        """
        rows = self._copy_rows(X)
        if y is None:
            raise ValueError(
                f"y=None; wanted the true label of every row: {type(self).__name__} raises the "
                f"loss of the label wanted in its place."
            )
        check_consistent_length(rows, y)
        codes = encode(check_labels(self.transform_target(y)), self.classes_)
        self._poison(rows, codes, next(self.surrogates_.parameters()).device)
        return rows

    def _check_before_training(self, X: np.ndarray, y: np.ndarray) -> None:
        check_fits("size", self.size, self.size, self.size, self.layout_)

    def _learn(self, study: Study) -> None:
        self.pattern_ = checkered(self.size, self.value_range_)
        chosen = study.draw_rows(study.eligible, max(1, round(_POISON_SHARE * len(study.samples))))
        labels = study.labels.clone()
        labels[chosen] = study.wanted[chosen]
        clean, wanted = study.X[chosen.cpu().numpy()], labels[chosen].cpu().numpy()
        self.surrogates_ = nn.ModuleList()
        for turn in range(self.n_surrogates):
            poison = np.array(clean, order="C")
            self._poison(poison, wanted, study.device)
            objective = _WithPoison(chosen, self._to_inputs(poison, study.device), len(labels))
            network = study.new_network()
            study.phase(
                f"surrogate {turn}",
                network,
                objective,
                epochs=self.surrogate_epochs,
                labels=labels,
            )
            self.surrogates_.append(network.eval())
        self._fitted_n_surrogates = self.n_surrogates

    def _poison(self, rows: np.ndarray, wanted: np.ndarray, device: torch.device) -> None:
        """Move rows against the surrogates there are, and put the patch on them, in place."""
        codes = torch.as_tensor(wanted, device=device)
        patch = torch.as_tensor(checkered(self.size, self._input_range()), device=device)

        def ease(pixels: torch.Tensor, chosen: slice) -> torch.Tensor:
            return -_total_loss(self.surrogates_, paste(pixels, patch), codes[chosen])

        if len(self.surrogates_):
            move_within(self, rows, self.surrogates_, ease, eps=self.eps, steps=self.steps)
        self._stamp(rows)

    def _build_module(self, name: str) -> nn.Module:
        channels = torch.zeros(self.layout_.channels)
        return nn.ModuleList(
            build_network(
                self._fitted_surrogate,
                self.layout_.chw,
                len(self.classes_),
                mean=channels,
                scale=channels,
            )
            for _ in range(self._fitted_n_surrogates)
        )

    def _stamp(self, rows: np.ndarray) -> None:
        stamp_corner(self.layout_, rows, self.pattern_)


class _WithPoison:
    """Plain training with other inputs in the place of some rows.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_poisoned,), int64
    inputs : torch.Tensor of shape (n_poisoned, C, H, W)
        What is put in their place.
    n_samples : int
    """

    def __init__(self, rows: torch.Tensor, inputs: torch.Tensor, n_samples: int) -> None:
        self._inputs = inputs
        self._position = torch.full((n_samples,), -1, device=rows.device)
        self._position[rows] = torch.arange(len(rows), device=rows.device)

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value to minimise and the logits; see `Objective`."""
        position = self._position[index]
        is_poison = position >= 0
        mixed = inputs.clone()
        mixed[is_poison] = self._inputs[position[is_poison]]
        logits = network(mixed)
        return F.cross_entropy(logits, labels), logits


def _total_loss(networks: Any, inputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the loss of each input, averaged over the networks and summed over the inputs."""
    losses = [sample_losses(network(inputs), wanted).sum() for network in networks]
    return torch.stack(losses).mean()
