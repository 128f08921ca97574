"""What callbacks have logged of a fit, epoch by epoch, beside its history."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import numpy as np
from sklearn.callback import ScoringMonitor

from antibackdoor.inspection._loss_recorder import LossRecorder
from antibackdoor.utils import naming

#: Columns of a monitor's log that are not scores.
_NO_SCORES = {
    "task_id_path",
    "parent_task_id_path",
    "estimator_name",
    "task_name",
    "task_id",
    "sequential_subtasks",
}

#: A phase of a fit: its name, its first epoch in the fit, its number of epochs.
Block = tuple[str, int, int]
#: The log of a callback, phase by phase: name, one value an epoch.
_Logged = list[tuple[str, list[float]]]


def blocks_of(history: list[dict[str, Any]]) -> list[Block]:
    """Return the phases of a history."""
    # Two phases of the same name may be adjacent; each counts its epochs from 0.
    starts = [number for number, row in enumerate(history) if row["epoch"] == 0]
    ends = [*starts[1:], len(history)]
    return [
        (history[start]["phase"], start, end - start)
        for start, end in zip(starts, ends, strict=True)
    ]


def align(name: str, logged: _Logged, blocks: list[Block], n_epochs: int) -> np.ndarray:
    """Align logged values with the epochs of the history; nan elsewhere.

    A fit that resumes from its `cache_dir` calls callbacks only for the epochs that it runs.
    These are the last epochs of a phase, and the last phases of a name.
    """
    values = np.full(n_epochs, np.nan)
    left = list(blocks)
    for phase, found in reversed(logged):
        while left and left[-1][0] != phase:
            left.pop()
        if not left or len(found) > left[-1][2]:
            raise ValueError(
                f"{name} has logged {len(found)} epochs of a phase {phase!r} that the history of "
                f"the estimator does not have; wanted the callback that watched its fit."
            )
        _, start, length = left.pop()
        values[start + length - len(found) : start + length] = found
    return values


def scores_of(monitor: ScoringMonitor) -> dict[str, _Logged]:
    """Return the scores of a monitor, by name."""
    with naming("monitor"):
        rows = monitor.get_logs(include_lineage=True).data
    names = {row["task_id_path"]: row["task_name"] for row in rows}
    epochs = [row for row in rows if row["task_name"] == "epoch"]
    if len({row["task_id_path"][:-2] for row in epochs}) != 1:
        raise ValueError(
            "monitor has logged the epochs of no fit or of several; wanted those of one, not of "
            "a search."
        )
    scores = dict.fromkeys(name for row in epochs for name in row if name not in _NO_SCORES)
    return {
        name.removeprefix("neg_"): _by_phase(
            (row["parent_task_id_path"], names[row["parent_task_id_path"]], sign * row[name])
            for row in epochs
        )
        for name in scores
        for sign in [-1 if name.startswith("neg_") else 1]
    }


def losses_of(recorder: LossRecorder, flagged: np.ndarray) -> dict[str, _Logged]:
    """Return the mean losses of flagged and of other rows, by name."""
    if not recorder.losses_:
        raise ValueError("recorder has recorded nothing; set it as a callback before fit.")
    if len(recorder.losses_[0]) != len(flagged):
        raise ValueError(
            f"recorder has recorded {len(recorder.losses_[0])} rows, but the estimator was fitted "
            f"on {len(flagged)}; wanted the callback that watched its fit."
        )

    groups = {"loss of other rows": ~flagged, "loss of flagged rows": flagged}
    return {
        name: _by_phase(
            (number, phase, float(losses[rows].mean()))
            for (number, phase), losses in zip(recorder.phases_, recorder.losses_, strict=True)
        )
        for name, rows in groups.items()
        if rows.any()
    }


def _by_phase(epochs: Iterable[tuple[Any, str, float]]) -> _Logged:
    return [
        (phase, [value for _, _, value in found])
        for (_, phase), found in groupby(epochs, key=lambda epoch: epoch[:2])
    ]
