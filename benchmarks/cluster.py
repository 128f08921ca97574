"""A table on a Dask cluster: the rows of a serial run, also when a worker is killed in mid-cell.

    python benchmarks/cluster.py

Four worker processes on this machine, small cells of digits. Needs antibackdoor[distributed].
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread
from typing import Any

# Before torch is imported, here and in the workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from distributed import Client, LocalCluster
from joblib import parallel_config

from antibackdoor.benchmark import Grid, run_benchmark

GRID = Grid(
    datasets=("digits",),
    attacks=("badnets", "blend"),
    defenses=("undefended", "abl"),
    seeds=(0, 1, 2),
    n_train=600,
    schedule=0.3,
)
CIRCUMSTANCES = ("seconds", "machine")


def figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name not in CIRCUMSTANCES} for row in rows
    ]


def kill_a_worker(client: Client) -> None:
    """Kill a worker process as soon as every worker is in the middle of a cell."""
    while sum(len(keys) for keys in client.processing().values()) < 4:
        time.sleep(0.1)
    time.sleep(3)
    pids = client.run(os.getpid)
    victim = next(address for address, keys in client.processing().items() if keys)
    os.kill(pids[victim], signal.SIGKILL)
    print(f"killed the worker at {victim}", flush=True)


def main() -> None:
    cells = GRID.cells()
    all_equal = True
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        started = time.perf_counter()
        wanted = figures(run_benchmark(cells, out / "serial"))
        print(f"serial: {len(wanted)} rows in {time.perf_counter() - started:.0f} s", flush=True)
        with (
            LocalCluster(
                n_workers=4, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
            parallel_config(backend="dask"),
        ):
            for name, killing in (("cluster", False), ("cluster, a worker killed", True)):
                if killing:
                    Thread(target=kill_a_worker, args=(client,), daemon=True).start()
                started = time.perf_counter()
                rows = figures(run_benchmark(cells, out / name, n_jobs=-1))
                equal = rows == wanted
                all_equal &= equal
                told = "the same rows" if equal else "OTHER ROWS"
                print(f"{name}: {told} in {time.perf_counter() - started:.0f} s", flush=True)
                for row, other in zip(wanted, rows, strict=True):
                    for key in sorted({*row, *other}):
                        if row.get(key) != other.get(key):
                            print(f"  {key}: {row.get(key)} and {other.get(key)}")
    sys.exit(not all_equal)


if __name__ == "__main__":
    main()
