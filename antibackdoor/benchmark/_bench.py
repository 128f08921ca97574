"""All cells of a table, on one machine or on many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from antibackdoor.benchmark._cells import Cell
from antibackdoor.benchmark._run import (
    data_source,
    failed_row,
    learn_attack,
    learned_attack,
    load_data,
    run_cell,
)
from antibackdoor.benchmark._store import Store

#: Told of each row as it comes: how many are there, of how many, and the row.
Listener = Callable[[int, int, dict[str, Any]], None]


def run_benchmark(
    cells: Sequence[Cell],
    out: str | Path,
    *,
    n_jobs: int | None = None,
    threads: int | None = 1,
    device: str = "auto",
    data_root: str | Path = "data",
    download: bool = False,
    on_row: Listener | None = None,
) -> list[dict[str, Any]]:
    """Run the unfinished cells of a table, and return the rows of all cells.

    Each row is saved to a file as soon as it is measured. If the run was stopped, a second call
    with the same `out` runs only the missing cells. A failed cell is saved with its error; the
    others continue, and a second call tries it again.

    Parameters
    ----------
    cells : sequence of Cell
    out : str or Path
        Directory for rows and learned attacks. Use one that only you write to: learned
        attacks are kept in it as pickles.
    n_jobs : int, default=None
        Cells at a time, as in scikit-learn: -1 is one for each core. Where a process dies, the
        cells that are left run one by one, and the one that dies again is a failed row. The
        backend is joblib's: inside ``joblib.parallel_config("dask")`` it is the Dask cluster
        of the client.
    threads : int, default=1
        Threads of one cell, wherever it runs: the same number gives the same rows. None:
        as many as torch takes by itself.
    device : str, default="auto"
        As in the classifiers.
    data_root : str or Path, default="data"
        Where data sets lie, on every machine that takes part.
    download : bool, default=False
        Whether to fetch data sets that are not there, before the first cell.
    on_row : callable, default=None
        Called as ``on_row(n_done, n_cells, row)`` after each cell.

    Returns
    -------
    list of dict
        The rows in the order of the cells.

    Raises
    ------
    ValueError
        If a data set cannot be used. No cell has run then.
    OSError
        If `out` cannot be written to. Finished rows stay.

    Examples
    --------
    >>> import tempfile
    >>> from antibackdoor.benchmark import Grid, run_benchmark
    >>> grid = Grid(("digits",), ("badnets",), ("undefended",), n_train=300, schedule=0.05)
    >>> with tempfile.TemporaryDirectory() as out:
    ...     (row,) = run_benchmark(grid.cells(), out)
    >>> row["error"] is None, row["poison_rate"]
    (True, 0.1)
    """
    cells = list(dict.fromkeys(cells))
    store = Store(out)
    missing = [
        cell for cell in cells if not store.finished(cell, data_source(cell, str(data_root)))
    ]
    for cell in {(cell.dataset, cell.n_train): cell for cell in missing}.values():
        load_data(cell, data_root=str(data_root), download=download)
    store.prepare()
    settings = {
        "data_root": str(data_root),
        "memory": str(store.directory.resolve() / "attacks"),
        "device": device,
        "threads": threads,
    }
    # Threads of a worker are limited by the cell itself: the same on each backend.
    parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=1)
    _learn_attacks(parallel, missing, settings)
    n_done = len(cells) - len(missing)
    for cell, row in _each(parallel, missing, settings):
        store.write(cell, row)
        n_done += 1
        if on_row is not None:
            on_row(n_done, len(cells), row)
    return store.rows(cells)


def _each(
    parallel: Parallel, cells: list[Cell], settings: dict[str, Any]
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Yield cells with their rows, in the order in which they are finished."""
    left = dict.fromkeys(cells)
    try:
        for cell, row in parallel(delayed(_run_one)(cell, settings) for cell in cells):
            del left[cell]
            yield cell, row
    except Exception as error:
        if not _is_death(error):
            raise
        # A process died, of one cell or of another. One by one, it shows of which.
        yield from ((cell, _run_apart(cell, settings)) for cell in left)


def _run_apart(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """Run a cell in a process that it has to itself, and make a row of that process's death."""
    try:
        # Two jobs: with one, joblib would run it in this process.
        ((_, row),) = Parallel(n_jobs=2)([delayed(_run_one)(cell, settings)])
    except Exception as error:
        if not _is_death(error):
            raise
        return failed_row(cell, settings, error)
    return row


def _is_death(error: Exception) -> bool:
    """Tell whether joblib's backend has lost a worker: Dask's error has no base to know it by."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"


def _run_one(cell: Cell, settings: dict[str, Any]) -> tuple[Cell, dict[str, Any]]:
    return cell, run_cell(cell, **settings)


def _learn_attacks(parallel: Parallel, cells: list[Cell], settings: dict[str, Any]) -> None:
    """Let each attack that trains do so once, before the cells that share it run side by side."""
    once = {
        (learned_attack(cell), cell.dataset, cell.n_train): cell
        for cell in cells
        if learned_attack(cell) is not None
    }
    try:
        for _ in parallel(delayed(_try_to_learn)(cell, settings) for cell in once.values()):
            pass
    except Exception as error:
        if not _is_death(error):
            raise
        # The cells of the attack that took its process down will do so too, and be failed rows.


def _try_to_learn(cell: Cell, settings: dict[str, Any]) -> None:
    try:
        learn_attack(cell, **settings)
    except Exception:
        # Its cells will meet the same error, and say so each in its row.
        return
