"""About how long a table or a fit takes, before it is begun."""

from __future__ import annotations

from collections.abc import Sequence

from antibackdoor.benchmark._cells import Cell
from antibackdoor.benchmark._defenses import count_epochs, make_defense
from antibackdoor.benchmark._run import limited_threads, load_data
from antibackdoor.benchmark._variants import parse_params
from antibackdoor.defenses import UndefendedClassifier
from antibackdoor.inspection import estimate_fit


def estimate_seconds(
    cells: Sequence[Cell],
    *,
    data_root: str = "data",
    device: str = "auto",
    threads: int | None = 1,
) -> list[float]:
    """Estimate the seconds of training of each cell on this machine.

    An epoch of each backbone is timed on some rows of its data set, and multiplied by the rows
    and the epochs of the defence. Not included: attacks that train, prediction, and other work of
    a defence. If a defence stops early, it takes less.

    Parameters
    ----------
    cells : sequence of Cell
    data_root : str, default="data"
    device : str, default="auto"
    threads : int, default=1

    Returns
    -------
    list of float

    Examples
    --------
    >>> from antibackdoor.benchmark import Cell, estimate_seconds
    >>> cell = Cell("digits", "badnets", 0.1, "undefended", n_train=200, schedule=0.1)
    >>> (seconds,) = estimate_seconds([cell])
    >>> seconds > 0
    True
    """
    per_row: dict[tuple[str, str], float] = {}
    seconds = []
    with limited_threads(threads):
        for cell in cells:
            data = load_data(cell, data_root=data_root)
            timed = (cell.dataset, cell.backbone)
            n_rows = len(data.y_train)
            if timed not in per_row:
                one_epoch = UndefendedClassifier(epochs=1, backbone=cell.backbone, device=device)
                per_row[timed] = estimate_fit(one_epoch, data.X_train, data.y_train) / n_rows
            classifier = make_defense(
                cell.defense,
                backbone=cell.backbone,
                seed=cell.seed,
                schedule=cell.schedule,
                settings=parse_params(cell.settings),
                device=device,
            )
            seconds.append(per_row[timed] * n_rows * count_epochs(classifier))
    return seconds
