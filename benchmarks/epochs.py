"""Clean accuracy by schedule and optimiser: the papers' 80 epochs against fewer.

    python benchmarks/epochs.py --data-root ../shared/data --rows 5000 --seeds 0

UndefendedClassifier with wrn-16-1, crops and flips, on the first training images of CIFAR-10 as
they are, tested on all 10,000 test images. "papers" is the papers' schedule: 80 epochs, batches of
64, rate 0.1 divided by ten at epochs 40 and 60. "default" is UndefendedClassifier() as it is, and
"before" as it was until November 2026. Every row is written to --out when it is finished, and a
second run takes up where the first was stopped. One thread.
"""

from __future__ import annotations

import argparse
import os
import time
from operator import itemgetter
from pathlib import Path
from typing import Any

# Before torch is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from _common import PROVENANCE, append_row, load_cifar10, provenance, resume_rows

from antibackdoor import UndefendedClassifier
from antibackdoor.benchmark import RowFormat

_QUARTER: dict[str, Any] = {"epochs": 20, "lr_schedule": "onecycle", "optimizer": "sgd"}
SETTINGS: dict[str, dict[str, Any]] = {
    "papers": {
        "epochs": 80,
        "lr_schedule": (40, 60),
        "batch_size": 64,
        "weight_decay": 1e-4,
        "optimizer": "sgd",
    },
    "default": {},
    "before": {"epochs": 60, "batch_size": 128, "optimizer": "sgd"},
    "steps, a quarter": {
        "epochs": 20,
        "lr_schedule": (10, 15),
        "batch_size": 64,
        "weight_decay": 1e-4,
        "optimizer": "sgd",
    },
    "onecycle 128": {**_QUARTER, "batch_size": 128},
    "onecycle 64": {**_QUARTER, "batch_size": 64},
    "onecycle 32": {**_QUARTER, "batch_size": 32},
    "onecycle 32, 0.2": {**_QUARTER, "batch_size": 32, "learning_rate": 0.2},
    "onecycle 16": {**_QUARTER, "batch_size": 16},
    "onecycle 32, 80 epochs": {**_QUARTER, "epochs": 80, "batch_size": 32},
}

ROWS = RowFormat(
    key=itemgetter("setting", "rows", "seed"),
    columns=("setting", "rows", "seed", "CA", "loss", "seconds", *PROVENANCE),
)


def main() -> None:
    """Run what is missing and print all rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    default = Path(__file__).parent / "results" / "epochs.jsonl"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    source = provenance()
    rows = resume_rows(options.out, ROWS)
    done = set(map(ROWS.key, rows))
    X, X_test, y, y_test = load_cifar10(options.data_root, options.rows)
    for seed in options.seeds:
        for name in options.settings:
            if (name, options.rows, seed) in done:
                continue
            clf = UndefendedClassifier(
                backbone="wrn-16-1",
                augment=("crop", "flip"),
                random_state=seed,
                **SETTINGS[name],
            )
            started = time.perf_counter()
            clf.fit(X, y)
            row = {
                "setting": name,
                "rows": options.rows,
                "seed": seed,
                "CA": 100 * clf.score(X_test, y_test),
                "loss": clf.history_[-1]["loss"],
                "seconds": time.perf_counter() - started,
                **source,
            }
            rows.append(row)
            append_row(options.out, row)
    print("| setting | rows | seed | CA | loss of the last epoch | seconds |\n" + "|---" * 6 + "|")
    for row in rows:
        print(
            f"| {row['setting']} | {row['rows']} | {row['seed']} | {row['CA']:.1f} "
            f"| {row['loss']:.3f} | {row['seconds']:.0f} |"
        )


if __name__ == "__main__":
    main()
