"""The one training loop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from antibackdoor.backbones import Network
from antibackdoor.training._augment import Augmentation
from antibackdoor.training._batches import Batches
from antibackdoor.training._objectives import Objective, sample_losses
from antibackdoor.training._samples import Samples
from antibackdoor.training._schedules import make_schedule


@dataclass(frozen=True)
class Recipe:
    """How the weights are moved.

    Attributes
    ----------
    learning_rate : float
        Highest rate of the schedule.
    schedule : str or sequence of int, default="constant"
        See `make_schedule`.
    momentum, weight_decay : float
        Of stochastic gradient descent.
    augmentation : Augmentation or None, default=None
    """

    learning_rate: float
    schedule: str | Sequence[int] = "constant"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augmentation: Augmentation | None = None


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch saw, as it passed.

    Attributes
    ----------
    losses : torch.Tensor of shape (n_samples,)
        Cross-entropy of each sample at the step that used it, in nats; nan for
        samples that no step used.
    objective : float
        Mean of the value minimised.
    accuracy : float
        Share of the samples whose label had the highest logit.
    learning_rate : float
        Of the last step.
    """

    losses: torch.Tensor
    objective: float
    accuracy: float
    learning_rate: float


def train(
    network: Network,
    samples: Samples,
    labels: torch.Tensor,
    *,
    batches: Batches,
    epochs: int,
    objective: Objective,
    recipe: Recipe,
    generator: torch.Generator,
    parameters: Iterable[nn.Parameter] | None = None,
) -> Iterator[EpochRecord]:
    """Train a network in place, an epoch at each step of the iterator.

    Parameters
    ----------
    network : Network
        On the device of the samples.
    samples : Samples
    labels : torch.Tensor of shape (n_samples,), int64
    batches : Batches
    epochs : int
    objective : Objective
    recipe : Recipe
    generator : torch.Generator
        Gives the order of the rows and the augmentation; on the same device.
    parameters : iterable of torch.nn.Parameter, default=None
        What is moved; None: the parameters of the network.

    Yields
    ------
    EpochRecord
        After each epoch. Who asks for no further one has stopped the training.

    Raises
    ------
    FloatingPointError
        If the value minimised is no longer finite.
    """
    # Nesterov's form needs a momentum to look ahead with.
    optimizer = torch.optim.SGD(
        network.parameters() if parameters is None else parameters,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
    )
    schedule = make_schedule(recipe.schedule, optimizer, epochs, len(batches))
    for epoch in range(epochs):
        losses = torch.full((len(samples),), torch.nan, dtype=samples.dtype, device=samples.device)
        totals = torch.zeros(3, dtype=torch.float64, device=samples.device)
        network.train()
        for index in batches.epoch(generator):
            stored = samples.stored(index)
            if recipe.augmentation is not None:
                stored = recipe.augmentation(stored, generator)
            value, logits = objective(network, samples.to_inputs(stored), labels[index], index)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            schedule.step()

            logits = logits.detach()
            losses[index] = sample_losses(logits, labels[index])
            correct = (logits.argmax(1) == labels[index]).sum()
            # Stays on the device: asking for a number here would wait for it.
            totals += torch.stack(
                [value.detach() * len(index), correct, correct.new_tensor(len(index))]
            )
        objective_sum, correct_sum, seen = totals.tolist()
        # The weights too: the last step of an epoch has no objective after it.
        if not math.isfinite(objective_sum) or not _all_finite(network):
            raise FloatingPointError(
                f"the training objective or a weight is not finite in epoch {epoch}; a smaller "
                f"learning_rate or smaller values in X may keep it so."
            )
        yield EpochRecord(losses, objective_sum / seen, correct_sum / seen, rate)


def _all_finite(network: Network) -> bool:
    return all(bool(torch.isfinite(weights).all()) for weights in network.parameters())
