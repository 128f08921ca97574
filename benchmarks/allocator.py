"""What a fit gains where glibc keeps the memory that it has freed.

    OMP_NUM_THREADS=1 python benchmarks/allocator.py --repeats 5

UndefendedClassifier with wrn-16-1, two epochs of 2,048 random images of 32 x 32 pixels in colour,
each fit in a process of its own, the ways in turn. "plain" is Python as it is, "environment" sets
`MALLOC_MMAP_THRESHOLD_` and `MALLOC_TRIM_THRESHOLD_` to 1 GiB, "mallopt" sets 32 MiB and 1 GiB from
within. A row is a way of a run: medians, and the ratios to the plain fit of the same repeat.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

# Before torch is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _common import append_row, provenance

from antibackdoor import UndefendedClassifier

GIB = 2**30
VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
WAYS = ("plain", "environment", "mallopt")
#: Of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: More, and an older glibc refuses it.
LARGEST_MMAP_THRESHOLD = 32 * 2**20


def measure(way: str) -> dict[str, float]:
    """Fit once, and return seconds, seconds of the processor and page faults of the fit."""
    if way == "mallopt":
        libc = ctypes.CDLL(None)
        assert libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        assert libc.mallopt(M_TRIM_THRESHOLD, GIB)
    X = np.random.default_rng(0).integers(0, 256, (2048, 32, 32, 3), dtype=np.uint8)
    y = np.arange(len(X)) % 10
    classifier = UndefendedClassifier(backbone="wrn-16-1", epochs=2, random_state=0)
    # What is loaded late counts for nobody.
    UndefendedClassifier(backbone="wrn-16-1", epochs=1, random_state=0).fit(X[:128], y[:128])
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    classifier.fit(X, y)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": seconds,
        "cpu_seconds": processor,
        "faults": after.ru_minflt - before.ru_minflt,
        "peak_mib": after.ru_maxrss / 1024,
    }


def in_process_of_its_own(way: str) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    if way == "environment":
        environment |= dict.fromkeys(VARIABLES, str(GIB))
    command = [sys.executable, __file__, "--measure", way]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def spread(values: list[float]) -> dict[str, float]:
    names = ("smallest", "median", "largest")
    figures = (min(values), statistics.median(values), max(values))
    return {name: round(figure, 4) for name, figure in zip(names, figures, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", choices=WAYS, help="one fit, in this process")
    default = Path(__file__).parent / "results" / "allocator.jsonl"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure)))
        return
    origin = provenance()
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for repeat in range(options.repeats):
        # Another order each time: a machine that gets slower is nobody's gain.
        for way in WAYS[repeat % len(WAYS) :] + WAYS[: repeat % len(WAYS)]:
            runs[way].append(in_process_of_its_own(way))
            print(repeat, way, runs[way][-1], flush=True)
    for way in WAYS:
        row: dict[str, object] = {"way": way, "repeats": options.repeats}
        for name in ("seconds", "cpu_seconds", "faults", "peak_mib"):
            row[name] = spread([run[name] for run in runs[way]])
        for name in ("seconds", "cpu_seconds"):
            pairs = zip(runs[way], runs["plain"], strict=True)
            row[f"{name}_to_plain"] = spread([run[name] / plain[name] for run, plain in pairs])
        append_row(options.out, row | origin)
        print(row)


if __name__ == "__main__":
    main()
