"""About how long a table takes, before it is begun."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

from antibackdoor.benchmark._cells import Cell
from antibackdoor.benchmark._defenses import count_epochs, make_defense
from antibackdoor.benchmark._run import limited_threads, load_data
from antibackdoor.benchmark._variants import parse_params
from antibackdoor.datasets import Dataset
from antibackdoor.defenses import UndefendedClassifier

# Rows that the timing epochs train on.
_N_TIMED = 512
_EPOCHS_TIMED = 3


def estimate_seconds(
    cells: Sequence[Cell],
    *,
    data_root: str = "data",
    device: str = "auto",
    threads: int | None = 1,
) -> list[float]:
    """Return about how many seconds each cell trains on this machine.

    An epoch of each backbone is timed on some rows of its data set, and goes once for every
    row and every epoch that the defence names. Learning an attack, prediction and what
    a defence does besides come on top; where it stops early, less is needed.

    Parameters
    ----------
    cells : sequence of Cell
    data_root : str, default="data"
    device : str, default="auto"
    threads : int, default=1

    Returns
    -------
    list of float
    """
    per_row: dict[tuple[str, str], float] = {}
    seconds = []
    with limited_threads(threads):
        for cell in cells:
            data = load_data(cell, data_root=data_root)
            timed = (cell.dataset, cell.backbone)
            if timed not in per_row:
                per_row[timed] = _time_a_row(data, cell.backbone, device)
            classifier = make_defense(
                cell.defense,
                backbone=cell.backbone,
                seed=cell.seed,
                schedule=cell.schedule,
                settings=parse_params(cell.settings),
                device=device,
            )
            seconds.append(per_row[timed] * len(data.y_train) * count_epochs(classifier))
    return seconds


def _time_a_row(data: Dataset, backbone: str, device: str) -> float:
    # Rows from all over the set, so that they are of more classes than one.
    rows = np.linspace(0, len(data.y_train) - 1, min(_N_TIMED, len(data.y_train)), dtype=int)
    classifier = UndefendedClassifier(
        backbone=backbone, epochs=_EPOCHS_TIMED, device=device, random_state=0
    )
    classifier.fit(data.X_train[rows], data.y_train[rows])
    return median(epoch["seconds"] for epoch in classifier.history_) / len(rows)
