"""How many images a second each phase of ABL and CBD trains, at the papers' settings.

    python benchmarks/phases.py --data-root ../shared/data --share 0.1

5,000 CIFAR-10 images, a tenth of them with BadNets' trigger, wrn-16-1, with crop, flip and Cutout;
ABL as its released code has it, but 20 epochs of isolation as in the paper (batches of 128), CBD
as its paper has it (batches of 64, all terms). `--share` trains that share of the epochs of
the long phases; their time is then told as it follows from the median epoch, and what a fit costs
outside its epochs as it was. `--share 1` trains everything. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import groupby
from typing import Any

import torch
from _common import load_cifar10, provenance

from antibackdoor import ABLClassifier, CBDClassifier, make_poisoned
from antibackdoor.defenses import BaseDefense

#: Seconds that the released codes took for the same epochs on this kind of machine, and images/s
#: of their main phases: measured by the project's founders, told in the issue.
RELEASED = {"ABLClassifier": (849, 509), "CBDClassifier": (2262, 226)}


def classifiers(share: float) -> list[BaseDefense]:
    """Return both, with a share of the papers' epochs."""

    def epochs(n: int) -> int:
        return max(1, round(n * share))

    return [
        ABLClassifier.from_paper(
            "released",
            backbone="wrn-16-1",
            detector__epochs=epochs(20),
            epochs=epochs(60),
            lr_schedule="constant",
            random_state=0,
        ),
        CBDClassifier.from_paper(
            backbone="wrn-16-1",
            detector__epochs=epochs(5),
            epochs=epochs(100),
            lr_schedule="constant",
            random_state=0,
        ),
    ]


def phases_of(history: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the seconds of the epochs of each phase."""
    return {
        phase: [row["seconds"] for row in rows]
        for phase, rows in groupby(history, key=lambda row: row["phase"])
    }


#: How many epochs each phase has at the papers' settings.
FULL_EPOCHS = {
    "ABLClassifier": {"isolate": 20, "finetune": 60, "unlearn": 4},
    "CBDClassifier": {"isolate": 5, "clean": 100},
}


def main() -> None:
    """Fit both and print their phases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps(provenance()))
    X, _, y, _ = load_cifar10(options.data_root)
    X_bad, y_bad, _ = make_poisoned(X, y, attack="badnets", random_state=0)
    print("| classifier | phase | epochs run | images/s, median epoch | seconds of all epochs |")
    print("|---|---|---|---|---|")
    for clf in classifiers(options.share):
        name = type(clf).__name__
        started = time.perf_counter()
        clf.fit(X_bad, y_bad)
        fitted = time.perf_counter() - started
        phases = phases_of(clf.history_)
        between = fitted - sum(sum(epochs) for epochs in phases.values())
        total = between
        for phase, epochs in phases.items():
            n_rows = len(y_bad) if phase != "unlearn" else len(clf.isolate_)
            middle = statistics.median(epochs)
            of_paper = FULL_EPOCHS[name][phase]
            total += of_paper * middle
            print(
                f"| {name} | {phase} | {len(epochs)} of {of_paper} "
                f"| {n_rows / middle:.0f} | {of_paper * middle:.0f} |",
                flush=True,
            )
        released, rate = RELEASED[name]
        print(f"| {name} | between the phases | | | {between:.1f} |")
        print(
            f"| {name} | all | | (released code: {rate}) | {total:.0f} "
            f"(released code: {released}, {released / total:.2f} times) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
