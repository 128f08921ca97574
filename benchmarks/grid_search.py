"""How much faster GridSearchCV is with two processes than with one, on eight fits.

    python benchmarks/grid_search.py --rounds 3

Two searches: ABL on digits (a small network) and undefended training of wrn-16-1 on random
images. Each is run with n_jobs=1 and n_jobs=2 in turn, with as many threads as torch takes by
itself; and once more with one thread for the serial search, which is what a second core adds.
The processes of joblib are started anew for every search, and their start counts. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
import torch
from _common import provenance
from joblib.externals.loky import get_reusable_executor
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV

from antibackdoor import ABLClassifier, UndefendedClassifier, make_poisoned
from antibackdoor.datasets import load_digits_images


def accuracy_and_threads(clf: Any, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return the accuracy, and how many threads torch has where this runs."""
    threads = torch.get_num_threads()
    return {"accuracy": accuracy_score(y, clf.predict(X)), "threads": threads}


def searches() -> dict[str, tuple[Any, dict[str, list[Any]], np.ndarray, np.ndarray]]:
    """Return classifiers, their grids of four points, and data."""
    X, y = load_digits_images()
    X_bad, y_bad, _ = make_poisoned(X, y, attack="badnets", random_state=0)
    images = np.random.default_rng(0).integers(0, 256, (1_280, 32, 32, 3), dtype=np.uint8)
    return {
        "ABL, digits": (
            ABLClassifier(random_state=0),
            {"learning_rate": [0.05, 0.1], "weight_decay": [1e-4, 5e-4]},
            X_bad,
            y_bad,
        ),
        "undefended, wrn-16-1": (
            UndefendedClassifier(backbone="wrn-16-1", epochs=12, random_state=0),
            {"learning_rate": [0.05, 0.1], "weight_decay": [1e-4, 5e-4]},
            images,
            np.arange(len(images)) % 10,
        ),
    }


def run(
    clf: Any, grid: dict[str, list[Any]], X: np.ndarray, y: np.ndarray, n_jobs: int
) -> tuple[float, list[float], set[float]]:
    """Return seconds of a search, its mean accuracies, and the threads its fits had."""
    get_reusable_executor().shutdown(wait=True)
    search = GridSearchCV(clf, grid, cv=2, n_jobs=n_jobs, scoring=accuracy_and_threads, refit=False)
    started = time.perf_counter()
    search.fit(X, y)
    seconds = time.perf_counter() - started
    threads = {float(t) for t in search.cv_results_["mean_test_threads"]}
    return seconds, search.cv_results_["mean_test_accuracy"].tolist(), threads


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--searches", nargs="+", default=list(searches()))
    options = parser.parse_args()
    print(json.dumps(provenance()))
    all_threads = torch.get_num_threads()
    print("| search | serial, all threads (s) | serial, one thread (s) | n_jobs=2 (s) ", end="")
    print("| over all threads | over one thread | threads of a fit with n_jobs=2 |")
    print("|---|---|---|---|---|---|---|")
    for name in options.searches:
        search = searches()[name]
        seconds: dict[str, list[float]] = {"all": [], "one": [], "two": []}
        for _ in range(options.rounds):
            for label, n_jobs, n_threads in (
                ("all", 1, all_threads),
                ("two", 2, all_threads),
                ("one", 1, 1),
            ):
                torch.set_num_threads(n_threads)
                taken, accuracies, threads = run(*search, n_jobs)
                seconds[label].append(taken)
                if label == "two":
                    found, workers_threads = accuracies, threads
                if label == "one":
                    # One thread here and one there: the same sums in the same order.
                    assert accuracies == found, (accuracies, found)
        torch.set_num_threads(all_threads)
        middle = {label: statistics.median(values) for label, values in seconds.items()}
        over_all = statistics.median(
            a / b for a, b in zip(seconds["all"], seconds["two"], strict=True)
        )
        over_one = statistics.median(
            a / b for a, b in zip(seconds["one"], seconds["two"], strict=True)
        )
        print(
            f"| {name} | {middle['all']:.1f} | {middle['one']:.1f} | {middle['two']:.1f} "
            f"| {over_all:.2f} | {over_one:.2f} | {sorted(workers_threads)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
