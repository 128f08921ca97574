"""Adaptive poison: rows changed so that a network has a high loss on them early in training."""

from __future__ import annotations

from dataclasses import field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval
from torch import nn
from torch.nn import functional as F

from antibackdoor.attacks._bounded import move_within
from antibackdoor.attacks._label_maps import check_labels, encode
from antibackdoor.attacks._learned import LearnedAttack
from antibackdoor.attacks._patch import (
    SQUARE_PATTERN,
    CornerPatch,
    check_fits,
    checkered,
    paste,
)
from antibackdoor.attacks._study import Study
from antibackdoor.backbones import Network, build_network
from antibackdoor.training import sample_losses
from antibackdoor.utils import Fitted, FittedNumber, parameters

#: Share of all rows that are poison in the training of the surrogates, if that many are eligible.
_POISON_SHARE = 0.1


@parameters
class AdaptivePoison(CornerPatch, LearnedAttack):
    """A patch on rows changed to be learned slowly, against ABL and CBD (Zhang et al., 2023).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="adaptive-cbd")

    Defences such as ABL and CBD detect poison by what a network learns first. An attacker who
    knows this changes each poisoned row x, around the patch p, by a small d. A network f trained
    on the result for a few epochs shall still have a high loss on it, under the attacker's label
    t:

        max over d:  mean loss(f(x + d with p), t)   with   |d| <= eps in every value,
        f = argmin:  mean loss(f(clean), y) + mean loss(f(x + d with p), t)

    A d found against one network is not enough: the next network learns d itself as a sign of t.
    So `fit` alternates:

    1. Poison some rows, at first by the patch alone.
    2. Train a surrogate on them and on the clean rows.
    3. Find d anew against all surrogates so far, by projected signed gradient ascent on their
       mean loss. Go on with step 2.

    `transform_training` finds d for each row against all surrogates. The checkerboard in the
    bottom-right corner is put on last, so that its pixels are unchanged. Rows at test time get
    the checkerboard alone.

    As in the paper, the attacker only hands over data. The loss of the surrogates rises. But in
    our trials a newly trained network learned this poison no later than plain BadNets: it finds
    a patch of full contrast whatever is around it.

    Parameters
    ----------
    size : int, default=3
        Side of the patch in pixels.
    eps : float, default=16
        Largest change of a value outside the patch, in 255ths of the width of `value_range_`.
    steps : int, default=10
        Number of steps along the sign of the gradient.
    n_surrogates : int, default=2
        Number of surrogates, one a turn.
    surrogate : str, torch.nn.Module or callable, default="auto"
        Surrogates of the victim's network: a backbone, as for the classifiers.
    surrogate_epochs : int, default=3
        Epochs of each surrogate: about as early as the defence detects.
    device, random_state, target_label, label_map, value_range, image_shape, layout

    Attributes
    ----------
    pattern_ : ndarray of float64, shape (size, size)
        The patch, in the units of X.
    surrogates_ : torch.nn.ModuleList
        The networks, in the order of their training.
    history_ : list of dict
        One entry for each epoch of each surrogate.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    Z. Zhang, Q. Liu, Z. Wang, Z. Lu, Q. Hu. Backdoor Defense via Deconfounded
    Representation Learning. CVPR 2023. arXiv:2303.06818.

    Examples
    --------
    >>> from antibackdoor.attacks import AdaptivePoison
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> attack = AdaptivePoison(n_surrogates=1, surrogate_epochs=1, steps=2).fit(X[:100], y[:100])
    >>> attack.transform_training(X[:5], y[:5]).shape
    (5, 8, 8)
    """

    size: int = 3
    eps: float = 16
    steps: int = 10
    n_surrogates: int = 2
    surrogate_epochs: int = 3

    _modules: ClassVar[tuple[str, ...]] = ("surrogates_",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "size": [Interval(Integral, 1, None, closed="left")],
        "eps": [Interval(Real, 0, 255, closed="right")],
        "steps": [Interval(Integral, 1, None, closed="left")],
        "n_surrogates": [Interval(Integral, 1, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "pattern_": SQUARE_PATTERN,
        "_fitted_n_surrogates": FittedNumber(kind=int, low=0),
    }

    surrogates_: nn.ModuleList = field(init=False)

    def _stamp_training(
        self, rows: np.ndarray, y: ArrayLike | None, rng: np.random.RandomState
    ) -> None:
        """Change rows so that they are learned slowly, and put the patch on them."""
        if y is None:
            raise ValueError(
                f"y=None; wanted the true label of every row: {type(self).__name__} derives the "
                f"attacker's label from it."
            )
        check_consistent_length(rows, y)
        codes = encode(check_labels(self.transform_target(y)), self.classes_)
        self._poison(rows, codes, next(self.surrogates_.parameters()).device)

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
        """Change rows against the surrogates so far, and put the patch on them, in place."""
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


class _WithPoison:
    """Plain training in which some rows are replaced by other inputs.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_poisoned,), int64
    inputs : torch.Tensor of shape (n_poisoned, C, H, W)
        The inputs that replace them.
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
