"""About how long a table or a fit takes, before it is begun."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

from antibackdoor.benchmark._cells import Cell
from antibackdoor.benchmark._defenses import make_defense
from antibackdoor.benchmark._run import limited_threads, load_data
from antibackdoor.benchmark._variants import parse_params
from antibackdoor.defenses import UndefendedClassifier
from antibackdoor.inspection import estimate_fit
from antibackdoor.training import TrainingEstimator, count_epochs_named


def estimate_seconds(
    cells: Sequence[Cell],
    *,
    data_root: str = "data",
    device: str = "auto",
    threads: int | None = 1,
) -> list[float]:
    """Estimate the seconds of training of each cell on this machine.

    A few steps of each kind are timed on some rows of the data set, and multiplied by the rows
    and the epochs of the defence. Not included: attacks that train, prediction, and other work of
    a defence. If a defence stops early, it takes less. An epoch of DBD shows two views of each
    row, so it takes more.

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
    known: dict[str, dict[Hashable, float]] = defaultdict(dict)
    seconds = []
    with limited_threads(threads):
        for cell in cells:
            data = load_data(cell, data_root=data_root)
            classifier = make_defense(
                cell.defense,
                backbone=cell.backbone,
                seed=cell.seed,
                schedule=cell.schedule,
                settings=parse_params(cell.settings),
                device=device,
            )
            if not isinstance(classifier, TrainingEstimator):
                # A class of the user's own is taken for plain training.
                epochs = count_epochs_named(classifier.get_params())
                if epochs == 0:
                    seconds.append(0.0)
                    continue
                classifier = UndefendedClassifier(
                    backbone=cell.backbone, device=device, epochs=epochs
                )
            seconds.append(
                estimate_fit(classifier, data.X_train, data.y_train, known=known[cell.dataset])
            )
    return seconds
