"""How long the attacks that train nothing take to stamp 50,000 images of 32 x 32 x 3 pixels.

    python benchmarks/stamping.py

Prints a Markdown table: median seconds of five runs, by the clock and of the processor, and the
largest extra memory as a multiple of the array, the copy that is returned being 1. One thread.
"""

from __future__ import annotations

import os
import statistics
import time
import tracemalloc

# Before numpy is imported: it reads the number of threads once.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from antibackdoor.attacks import ATTACKS, BaseAttack, LearnedAttack

N_ROWS = 50_000
RUNS = 5


def seconds(attack: BaseAttack, X: np.ndarray) -> tuple[float, float]:
    """Return the median time of `transform`: by the clock, and of the processor."""
    by_clock, of_processor = [], []
    for _ in range(RUNS):
        clock, processor = time.perf_counter(), time.process_time()
        attack.transform(X)
        by_clock.append(time.perf_counter() - clock)
        of_processor.append(time.process_time() - processor)
    return statistics.median(by_clock), statistics.median(of_processor)


def extra_memory(attack: BaseAttack, X: np.ndarray) -> float:
    """Return the peak of what `transform` allocates, as a multiple of X."""
    tracemalloc.start()
    attack.transform(X)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / X.nbytes


def main() -> None:
    """Print the table."""
    X = np.random.default_rng(0).integers(0, 256, (N_ROWS, 32, 32, 3), dtype=np.uint8)
    y = np.arange(N_ROWS) % 10
    print("| attack | seconds | processor seconds | extra memory |")
    print("|---|---|---|---|")
    for name, kind in ATTACKS.items():
        if issubclass(kind, LearnedAttack):
            continue
        attack = kind().fit(X, y)
        by_clock, of_processor = seconds(attack, X)
        memory = extra_memory(attack, X)
        print(f"| {name} | {by_clock:.2f} | {of_processor:.2f} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    main()
