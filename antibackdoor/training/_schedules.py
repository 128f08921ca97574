"""How the learning rate changes from step to step."""

from __future__ import annotations

from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
)

#: Names a user may give in `lr_schedule=`, beside a sequence of epochs.
SCHEDULES = ("constant", "cosine", "onecycle")


def make_schedule(
    schedule: str | Sequence[int], optimizer: Optimizer, epochs: int, steps_per_epoch: int
) -> LRScheduler:
    """Build a schedule that is stepped after every batch.

    Parameters
    ----------
    schedule : {"constant", "cosine", "onecycle"} or sequence of int
        ``"onecycle"`` rises to the optimiser's rate for a quarter of the steps and
        falls to nothing; a sequence gives the epochs from which the rate is
        divided by ten once more.
    optimizer : torch.optim.Optimizer
        Its rate is the highest of the schedule.
    epochs, steps_per_epoch : int

    Returns
    -------
    torch.optim.lr_scheduler.LRScheduler
    """
    steps = max(1, epochs * steps_per_epoch)
    if schedule == "constant":
        return ConstantLR(optimizer, factor=1.0)
    if schedule == "cosine":
        return CosineAnnealingLR(optimizer, steps)
    if schedule == "onecycle":
        rate = optimizer.param_groups[0]["lr"]
        # One step more than is taken: its last one would be outside the cycle.
        return OneCycleLR(optimizer, rate, steps + 1, pct_start=0.25, cycle_momentum=False)
    if isinstance(schedule, str):
        raise ValueError(f"lr_schedule={schedule!r}; wanted one of {SCHEDULES} or epochs.")
    return MultiStepLR(optimizer, [epoch * steps_per_epoch for epoch in schedule], gamma=0.1)
