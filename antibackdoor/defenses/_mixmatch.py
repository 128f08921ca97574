"""MixMatch: training with the labels of some rows only (Berthelot et al., NeurIPS 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from antibackdoor.backbones import Network
from antibackdoor.training import Augmentation
from antibackdoor.utils._own_draws import drawing_on

# K, T and alpha of MixMatch, as in the papers.
_N_GUESSED_FROM = 2
_TEMPERATURE = 0.5
_ALPHA = 0.75


def sharpen(probabilities: torch.Tensor, temperature: float = _TEMPERATURE) -> torch.Tensor:
    """Make the likely classes likelier: p_i^(1/T) / sum of p_j^(1/T).

    Parameters
    ----------
    probabilities : torch.Tensor of shape (n, n_classes)
    temperature : float, default=0.5
        T; 1 changes nothing.

    Returns
    -------
    torch.Tensor of shape (n, n_classes)
    """
    powers = probabilities ** (1 / temperature)
    return powers / powers.sum(1, keepdim=True)


def draw_weights(n: int, like: torch.Tensor) -> torch.Tensor:
    """Draw MixUp's weights max(w, 1 - w), w of Beta(0.75, 0.75), from torch's own generator.

    Parameters
    ----------
    like : torch.Tensor
        A tensor with the wanted type and device.

    Returns
    -------
    torch.Tensor of shape (n,)
        Between 0.5 and 1: a mixture is mostly the sample itself.
    """
    # In float64 on the CPU: the same draws on every device.
    alpha = torch.tensor(_ALPHA, dtype=torch.float64)
    with drawing_on(alpha.device):
        drawn = torch.distributions.Beta(alpha, alpha).sample((n,))
    return torch.maximum(drawn, 1 - drawn).to(like)


class MixMatch:
    """Semi-supervised objective: only the first rows of each batch have labels.

    The labels of the other rows are guessed: the network's mean prediction of two augmentations,
    sharpened. Then every sample is mixed with another. The value is the cross-entropy of the
    labelled rows plus `weight` times the mean squared distance between the predictions for the
    other rows and their guesses. That second term starts at zero and rises over the training.

    The logits, which serve the history only, are those of the mixtures.

    Parameters
    ----------
    n_unlabelled : int
        Rows at the end of each batch whose labels are ignored.
    weight : float
        lambda_U.
    n_steps : int
        Steps of the whole training, over which the weight rises.
    generator : torch.Generator
        Draws the augmentation and the pairs to mix.
    """

    def __init__(
        self,
        *,
        n_unlabelled: int,
        augmentation: Augmentation | None,
        weight: float,
        n_steps: int,
        generator: torch.Generator,
    ) -> None:
        self._n_unlabelled = n_unlabelled
        self._augmentation = augmentation
        self._weight = weight
        self._n_steps = n_steps
        self._generator = generator
        self._steps_done = 0

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value to minimise and the logits; see `Objective`."""
        n_labelled = len(inputs) - self._n_unlabelled
        told = F.one_hot(labels[:n_labelled], network.head.out_features).to(inputs.dtype)
        unlabelled = inputs[n_labelled:]
        inputs = self._augment(torch.cat([inputs, *[unlabelled] * (_N_GUESSED_FROM - 1)]))
        guessed = self._guess(network, inputs[n_labelled:])
        wanted = torch.cat([told, *[guessed] * _N_GUESSED_FROM])

        logits, wanted = self._mix(network, inputs, wanted)
        labelled_loss = F.cross_entropy(logits[:n_labelled], wanted[:n_labelled])
        distance = (logits.softmax(1) - wanted)[n_labelled:].square().sum()
        # max with 1: there may be no row without a label.
        unlabelled_loss = distance / max(1, wanted[n_labelled:].numel())
        weight = self._weight * min(1.0, self._steps_done / self._n_steps)
        self._steps_done += 1
        return labelled_loss + weight * unlabelled_loss, logits[: len(index)]

    def state(self) -> dict[str, Any]:
        """Return what changes from step to step; see `StatefulObjective`."""
        return {"steps_done": self._steps_done}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state of an equal objective."""
        self._steps_done = state["steps_done"]

    def _augment(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._augmentation is None:
            return inputs
        images = self._augmentation(inputs.permute(0, 2, 3, 1), self._generator)
        return images.permute(0, 3, 1, 2)

    @torch.no_grad()
    def _guess(self, network: Network, copies: torch.Tensor) -> torch.Tensor:
        """Return the guessed labels, as probabilities, of rows with several augmentations."""
        if len(copies) == 0:
            return copies.new_zeros(0, network.head.out_features)
        said = network(copies).softmax(1)
        return sharpen(said.view(_N_GUESSED_FROM, self._n_unlabelled, -1).mean(0))

    def _mix(
        self, network: Network, inputs: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix each sample with another; return the logits of the mixtures and the mixed labels."""
        others = torch.randperm(len(inputs), generator=self._generator, device=inputs.device)
        weights = draw_weights(len(inputs), inputs)[:, None]
        columns = weights.view(-1, *[1] * (inputs.ndim - 1))
        logits = network(torch.lerp(inputs[others], inputs, columns))
        return logits, torch.lerp(wanted[others], wanted, weights)
