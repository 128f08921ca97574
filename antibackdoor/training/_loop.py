"""The one training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from antibackdoor.backbones import Network
from antibackdoor.training._acceleration import Acceleration
from antibackdoor.training._augment import Augmentation
from antibackdoor.training._batches import Batches
from antibackdoor.training._draws import draws_nothing, is_own
from antibackdoor.training._objectives import Objective, StatefulObjective, sample_losses
from antibackdoor.training._optimizers import make_optimizer
from antibackdoor.training._samples import Samples
from antibackdoor.training._schedules import make_schedule
from antibackdoor.training._split import backward, split
from antibackdoor.utils._own_draws import drawing_nothing, drawing_on

#: Advice for a training that is not finite.
ADVICE = "a smaller learning_rate or smaller values in X may keep it so."


@dataclass(frozen=True)
class Recipe:
    """Settings of the steps: rate, schedule, momentum, augmentation, optimiser.

    Attributes
    ----------
    learning_rate : float
        Highest rate of the schedule.
    schedule : str or sequence of int, default="constant"
        See `make_schedule`.
    momentum, weight_decay : float
        Momentum and L2 penalty.
    augmentation : Augmentation or None, default=None
    optimizer : {"sgd", "muon"}, default="sgd"
        ``"muon"``: convolutions step along the polar factor of their momentum.

    Examples
    --------
    >>> from antibackdoor.training import Recipe
    >>> Recipe(learning_rate=0.1, schedule="cosine").momentum
    0.9
    """

    learning_rate: float
    schedule: str | Sequence[int] = "constant"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augmentation: Augmentation | None = None
    optimizer: str = "sgd"

    def for_repair(self, **changes: Any) -> Recipe:
        """Return the recipe of a phase that unlearns or repairs: changed, and with plain SGD.

        Near the end of an ascent the gradient vanishes, and Muon's step would not.
        """
        return replace(self, optimizer="sgd", **changes)


@dataclass(frozen=True)
class EpochRecord:
    """Losses and accuracy recorded in one epoch of training.

    Attributes
    ----------
    losses : torch.Tensor of shape (n_samples,)
        Cross-entropy of each sample in the step that used it, in nats; nan for unused samples.
    objective : float
        Mean of the value minimised.
    accuracy : float
        Share of the samples whose label had the highest logit.
    learning_rate : float
        Learning rate of the last step.
    """

    losses: torch.Tensor
    objective: float
    accuracy: float
    learning_rate: float


class Training:
    """The training of a network, epoch by epoch.

    Parameters
    ----------
    network : Network
        Trained in place; on the device of the samples.
    samples : Samples
    labels : torch.Tensor of shape (n_samples,), int64
    batches : Batches
    epochs : int
        Number of epochs that the schedule covers.
    objective : Objective
    recipe : Recipe
    generator : torch.Generator
        Draws the order of the rows and the augmentation; on the same device.
    parameters : iterable of torch.nn.Parameter, default=None
        Parameters to train. None: those of the network.
    acceleration : Acceleration, default=None
        None: the network is not compiled.
    told : callable, default=None
        Called after each step with the number of steps made in this epoch, and of all its steps.
        It has to be quick.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from antibackdoor.backbones import build_network
    >>> from antibackdoor.training import CrossEntropy, Recipe, Samples, ShuffledRows, Training
    >>> X = np.arange(32, dtype=np.float32).reshape(8, 4)
    >>> samples = Samples(X, None, torch.device("cpu"), torch.float32)
    >>> mean, scale = samples.channel_statistics
    >>> training = Training(
    ...     build_network("mlp", (4,), 2, mean=mean, scale=scale),
    ...     samples,
    ...     torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]),
    ...     batches=ShuffledRows(torch.arange(8), batch_size=4),
    ...     epochs=2,
    ...     objective=CrossEntropy(),
    ...     recipe=Recipe(learning_rate=0.1),
    ...     generator=torch.Generator().manual_seed(0),
    ... )
    >>> training.run_epoch().losses.shape
    torch.Size([8])
    """

    def __init__(
        self,
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
        acceleration: Acceleration | None = None,
        told: Callable[[int, int], None] | None = None,
    ) -> None:
        self._told = told
        self.generator = generator
        self._network = network
        # The same weights, for the objective to call.
        apart = getattr(objective, "takes_network_apart", False)
        fast = network if acceleration is None or apart else acceleration.wrap(network)
        self._running = split(fast)
        self.samples = samples
        self._labels = labels
        self._batches = batches
        self._objective = objective
        # All objects that run in an epoch: a user's class may draw random numbers.
        self._draws = not (draws_nothing(network) and is_own(objective) and is_own(batches))
        self._augmentation = recipe.augmentation
        moved = list(network.parameters() if parameters is None else parameters)
        self._moved = moved
        in_network = {id(parameter) for parameter in network.parameters()}
        self._beside = [parameter for parameter in moved if id(parameter) not in in_network]
        self._optimizer = make_optimizer(
            recipe.optimizer,
            moved,
            learning_rate=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        self._schedule = make_schedule(recipe.schedule, self._optimizer, epochs, len(batches))

    def run_epoch(self) -> EpochRecord:
        """Train for one epoch.

        Raises
        ------
        FloatingPointError
            If the value minimised, or a weight, is no longer finite.
        """
        samples, labels = self.samples, self._labels
        losses = torch.full((len(samples),), torch.nan, dtype=samples.dtype, device=samples.device)
        totals = torch.zeros(2, dtype=torch.float64, device=samples.device)
        seen = 0
        self._network.train()
        # On CUDA `_step` handles its own draws.
        mostly_quiet = not self._draws or samples.device.type != "cpu"
        with drawing_nothing() if mostly_quiet else nullcontext():
            batches = list(self._batches.epoch(self.generator))
            # strict: asks for one batch too many, which tells the rows that the epoch is over.
            rows = zip(batches, samples.stored_batches(batches), strict=True)
            for number, (index, stored) in enumerate(rows, start=1):
                rate = self._optimizer.param_groups[0]["lr"]
                try:
                    value, logits = self._step(index, stored)
                except torch.linalg.LinAlgError as error:  # of weights that are not finite
                    raise FloatingPointError(f"{error}; {ADVICE}") from error
                losses[index] = sample_losses(logits, labels[index])
                correct = (logits.argmax(1) == labels[index]).sum()
                # Stays on the device: reading a number here would wait for the device.
                totals += torch.stack([value * len(index), correct])
                seen += len(index)
                if self._told is not None:
                    self._told(number, len(batches))
        objective_sum, correct_sum = totals.tolist()
        # The weights too: the last step of an epoch has no objective after it.
        if not math.isfinite(objective_sum) or not all(
            bool(torch.isfinite(weights).all()) for weights in self._network.parameters()
        ):
            raise FloatingPointError(f"the training objective or a weight is not finite; {ADVICE}")
        return EpochRecord(losses, objective_sum / seen, correct_sum / seen, rate)

    def _step(self, index: torch.Tensor, stored: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self._augmentation is not None:
            stored = self._augmentation(stored, self.generator)
        inputs = self.samples.to_inputs(stored)
        with drawing_on(inputs.device) if self._draws else nullcontext():
            value, logits = self._objective(self._running, inputs, self._labels[index], index)
        self._optimizer.zero_grad(set_to_none=True)
        backward(value, self._moved)
        self._optimizer.step()
        self._schedule.step()
        return value.detach(), logits.detach()

    def state(self) -> dict[str, Any]:
        """Return the state that changes from epoch to epoch, except the generators; see `restore`.

        The tensors are not copied: copy those that you keep.
        """
        return {
            **self.result(),
            "optimizer": self._optimizer.state_dict(),
            # The rest of a schedule does not change.
            "schedule": {
                name: getattr(self._schedule, name)
                for name in ("last_epoch", "_step_count", "_last_lr")
            },
        }

    def result(self) -> dict[str, Any]:
        """Return the part of the state that is needed after the last epoch."""
        objective = self._objective
        return {
            "network": self._network.state_dict(),
            "beside": self._beside,
            "objective": objective.state() if isinstance(objective, StatefulObjective) else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a `state` or a `result` of an equal training.

        Raises
        ------
        KeyError, RuntimeError, TypeError, ValueError
            If it is of another training.
        """
        self._network.load_state_dict(state["network"])
        with torch.no_grad():
            for parameter, value in zip(self._beside, state["beside"], strict=True):
                parameter.copy_(value)
        if isinstance(self._objective, StatefulObjective):
            self._objective.restore(state["objective"])
        if "optimizer" in state:
            self._optimizer.load_state_dict(state["optimizer"])
            self._schedule.load_state_dict(state["schedule"])
            # torch compares no shapes here, and fails at the first step.
            for weights, moved in self._optimizer.state.items():
                if any(torch.is_tensor(of) and of.shape != weights.shape for of in moved.values()):
                    raise ValueError("its momentum is that of other weights")
