"""How near `estimate_fit` comes to the time of the fit, of a search and of a plain classifier.

    OMP_NUM_THREADS=1 python benchmarks/estimates.py --out benchmarks/results/estimates.jsonl

The data is poisoned, so that the search makes all of its passes. The estimate is made before the
fit and after it, for other work on the machine comes and goes; a row has both.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from _common import append_row, load_cifar10, provenance

from antibackdoor import PoisonSearch, UndefendedClassifier, make_poisoned
from antibackdoor.datasets import load_digits_images
from antibackdoor.inspection import estimate_fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["digits", "cifar10"])
    arguments = parser.parse_args()
    origin = provenance()
    fits: dict[str, Any] = {
        "search": PoisonSearch(random_state=0),
        "classifier": UndefendedClassifier(random_state=0),
    }
    for data in arguments.sets:
        if data == "digits":
            X, y = load_digits_images()
        else:
            X, _, y, _ = load_cifar10(arguments.data_root, 2000)
        X, y, _ = make_poisoned(X, y, attack="badnets", random_state=0)
        for name, estimator in fits.items():
            before = estimate_fit(estimator, X, y)
            started, used = time.perf_counter(), time.process_time()
            estimator.fit(X, y)
            seconds, used = time.perf_counter() - started, time.process_time() - used
            row = {
                "data": data,
                "fit": name,
                "n_images": len(y),
                "estimated_before": round(before, 1),
                "seconds": round(seconds, 1),
                "estimated_after": round(estimate_fit(estimator, X, y), 1),
                "seconds_of_training": round(sum(row["seconds"] for row in estimator.history_), 1),
                "seconds_of_processor": round(used, 1),
            }
            append_row(arguments.out, row | origin)
            print(row, flush=True)


if __name__ == "__main__":
    main()
