"""Schedules of the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
)

from antibackdoor.utils._arguments import check_whole_numbers

#: Names a user may give in `lr_schedule=`, beside a sequence of epochs.
SCHEDULES = ("constant", "cosine", "onecycle")


def check_schedule(schedule: str | Sequence[int]) -> str | tuple[int, ...]:
    """Return a schedule in the form that `make_schedule` works with.

    Parameters
    ----------
    schedule : str or sequence of int
        A name of `SCHEDULES`, or epochs: whole numbers of one and more, rising.

    Returns
    -------
    str or tuple of int

    Raises
    ------
    ValueError, TypeError
        If it is neither of these.

    Examples
    --------
    >>> from antibackdoor.training import check_schedule
    >>> check_schedule("cosine"), check_schedule([20, 70])
    ('cosine', (20, 70))
    """
    wanted = f"one of {SCHEDULES}, or epochs: whole numbers of 1 and more, each above the last"
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise ValueError(f"lr_schedule={schedule!r}; wanted {wanted}.")
        return schedule
    epochs = check_whole_numbers("lr_schedule", schedule, wanted)
    # From 0 on, so that the first is checked with the others.
    rising = all(earlier < later for earlier, later in pairwise((0, *epochs)))
    if not epochs or not rising:
        raise ValueError(f"lr_schedule={schedule!r}; wanted {wanted}.")
    return epochs


def make_schedule(
    schedule: str | Sequence[int], optimizer: Optimizer, epochs: int, steps_per_epoch: int
) -> LRScheduler:
    """Build a schedule that is stepped after every batch.

    Parameters
    ----------
    schedule : {"constant", "cosine", "onecycle"} or sequence of int
        ``"onecycle"`` rises to the optimiser's rate for a quarter of the steps and then falls to
        nearly zero. A sequence gives the epochs from which the rate is divided by ten once more.
    optimizer : torch.optim.Optimizer
        Its rate is the highest of the schedule.
    """
    checked = check_schedule(schedule)
    if isinstance(checked, tuple):
        return MultiStepLR(optimizer, [epoch * steps_per_epoch for epoch in checked], gamma=0.1)
    steps = max(1, epochs * steps_per_epoch)
    if checked == "constant":
        return ConstantLR(optimizer, factor=1.0)
    if checked == "cosine":
        return CosineAnnealingLR(optimizer, steps)
    # One step more than is taken: its last one would be outside the cycle. Not four, of which
    # torch would rise for 0.25 * 4 - 1 = 0 steps and divide by them.
    cycle = 5 if steps == 3 else steps + 1
    rate = optimizer.param_groups[0]["lr"]
    return OneCycleLR(optimizer, rate, cycle, pct_start=0.25, cycle_momentum=False)
