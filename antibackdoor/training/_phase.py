"""A phase of training, told to scikit-learn's callbacks epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from sklearn.callback import CallbackContext

from antibackdoor.training._loop import EpochRecord


def run_phase(
    name: str,
    training: Iterator[EpochRecord],
    *,
    epochs: int,
    context: CallbackContext,
    told: dict[str, Any],
    history: list[dict[str, Any]],
    as_fitted: Callable[[], dict[str, Any]] | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[EpochRecord]:
    """Run the epochs of `train`; each is a task of the callbacks and a row of the history.

    Parameters
    ----------
    name : str
        Of the phase.
    training : iterator of EpochRecord
        What `train` returned.
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
        Asked after each epoch whether to end the phase.

    Returns
    -------
    list of EpochRecord
    """
    told = {**told, "reconstruction_attributes": as_fitted}
    phase = context.subcontext(name, max_subtasks=epochs)
    phase.call_on_fit_task_begin(**told)
    records: list[EpochRecord] = []
    for epoch in range(epochs):
        task = phase.subcontext("epoch")
        task.call_on_fit_task_begin(**told)
        started = time.perf_counter()
        record = next(training)
        records.append(record)
        history.append(
            {
                "phase": name,
                "epoch": epoch,
                "objective": record.objective,
                "loss": float(record.losses.nanmean()),
                "accuracy": record.accuracy,
                "learning_rate": record.learning_rate,
                "seconds": time.perf_counter() - started,
            }
        )
        asked = task.call_on_fit_task_end(**told)
        if asked or (stop is not None and stop()):
            break
    phase.call_on_fit_task_end(**told)
    return records
