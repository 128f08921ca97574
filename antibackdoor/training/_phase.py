"""A phase of training, told to scikit-learn's callbacks epoch by epoch."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import Any

import torch
from sklearn.callback import CallbackContext

from antibackdoor.training._checkpoints import Checkpoints, Progress
from antibackdoor.training._loop import EpochRecord, Training
from antibackdoor.training._parallel import Team, alone, current_team


def run_phase(
    name: str,
    training: Training,
    *,
    epochs: int,
    context: CallbackContext,
    told: dict[str, Any],
    history: list[dict[str, Any]],
    as_fitted: Callable[[], dict[str, Any]] | None = None,
    stop: Callable[[], bool] | None = None,
    keep_losses: bool = False,
    checkpoints: Checkpoints | None = None,
) -> list[torch.Tensor]:
    """Run the epochs of a training; each is a task of the callbacks and a row of the history.

    Parameters
    ----------
    name : str
        Of the phase.
    training : Training
    epochs : int
        At most.
    context : CallbackContext
        Of the whole fit.
    told : dict
        What the callbacks are given: ``estimator``, ``X`` and ``y``.
    history : list of dict
        A row is added after every epoch.
    as_fitted : callable, default=None
        Returns the attributes the estimator would have, were it stopped now, for
        callbacks that ask. None: it cannot be used half-way.
    stop : callable, default=None
        Asked after each epoch whether to end the phase. What it remembers may be of the
        epoch before only: it is asked about that one again where the phase goes on.
    keep_losses : bool, default=False
        Whether the losses of all epochs are of interest.
    checkpoints : Checkpoints, default=None
        Where the phase goes on from, and is written down after every epoch. Callbacks are
        told of the epochs that run, not of those that had run.

    Returns
    -------
    list of torch.Tensor of shape (n_samples,)
        The recorded losses of each epoch, if they are to be kept.

    Raises
    ------
    FloatingPointError
        If the training diverges.
    """
    told = {**told, "reconstruction_attributes": as_fitted}
    team = current_team()
    phase = context.subcontext(name, max_subtasks=epochs)
    with alone():  # callbacks may differ from process to process
        phase.call_on_fit_task_begin(**told)
    progress = Progress(name) if checkpoints is None else checkpoints.resume(name, training)
    if progress.history and not progress.finished and stop is not None:
        stop()
    while not progress.finished and len(progress.history) < epochs:
        task = phase.subcontext("epoch")
        with alone():
            task.call_on_fit_task_begin(**told)
        started = time.perf_counter()
        epoch = len(progress.history)
        try:
            record = training.run_epoch()
        except FloatingPointError as error:
            raise FloatingPointError(f"phase {name!r}, epoch {epoch}: {error}") from None
        seconds = time.perf_counter() - started
        if keep_losses:
            progress.losses.append(record.losses)
        with alone():
            asked = task.call_on_fit_task_end(**told)
        asked, seconds = _settle(team, progress.name, epoch, record, asked, seconds)
        progress.history.append(_row(name, epoch, record, seconds))
        stopped = asked or (stop is not None and stop())
        progress.finished = stopped or epoch + 1 == epochs
        if checkpoints is not None:
            checkpoints.save(progress, training)
    history += progress.history
    with alone():
        phase.call_on_fit_task_end(**told)
    return progress.losses


def _settle(
    team: Team, name: str, epoch: int, record: EpochRecord, asked: bool, seconds: float
) -> tuple[bool, float]:
    """Return whether a callback of any process asked to stop, and the first one's seconds.

    Raises
    ------
    RuntimeError
        If the processes are no longer at the same place of the same fit.
    """
    if team.size == 1:
        return asked, seconds
    seen = zlib.crc32(record.losses.isnan().cpu().numpy().tobytes())
    answers = team.exchange(((name, epoch, seen), asked, seconds))
    if any(place != answers[0][0] for place, _, _ in answers):
        raise RuntimeError(
            f"the processes of this fit have come apart in phase {name!r}, epoch {epoch}: they "
            f"have trained on different rows. All must have the same packages and hardware."
        )
    return any(asked for _, asked, _ in answers), answers[0][2]


def _row(name: str, epoch: int, record: EpochRecord, seconds: float) -> dict[str, Any]:
    return {
        "phase": name,
        "epoch": epoch,
        "objective": record.objective,
        "loss": float(record.losses.nanmean()),
        "accuracy": record.accuracy,
        "learning_rate": record.learning_rate,
        "seconds": seconds,
    }
