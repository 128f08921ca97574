"""Undefended, ABL and CBD, attack by attack, on digits or the first 5,000 images of CIFAR-10.

    python benchmarks/defenses.py digits
    python benchmarks/defenses.py cifar10 --data-root ../shared/data --shard 0/2 &
    python benchmarks/defenses.py cifar10 --data-root ../shared/data --shard 1/2 &
    python benchmarks/defenses.py cifar10-short --data-root ../shared/data
    python benchmarks/defenses.py cifar10 --table

Each cell is written to a line of JSON in benchmarks/results/ when it is finished, and a
second run takes up where the first one was stopped. One thread a process: start as many
processes (shards) as there are cores.
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

import numpy as np
from _common import PROVENANCE, append_row, load_cifar10, provenance, resume_rows
from sklearn.base import clone
from sklearn.model_selection import train_test_split

from antibackdoor import (
    ABLClassifier,
    CBDClassifier,
    LossRank,
    Mixed,
    RelativeLoss,
    UndefendedClassifier,
    make_poisoned,
)
from antibackdoor.attacks import make_attack
from antibackdoor.benchmark import RowFormat, read_rows
from antibackdoor.datasets import load_digits_images
from antibackdoor.metrics import (
    attack_success_rate,
    clean_accuracy,
    isolation_precision,
    isolation_recall,
    robust_accuracy,
    target_recall,
)

TARGET = 0
RESULTS = Path(__file__).parent / "results"
ROWS = RowFormat(
    key=itemgetter("attack", "poison_rate", "seed", "defense"),
    columns=(
        *("attack", "poison_rate", "seed", "defense", "ca", "asr", "r_acc", "target_recall"),
        *("isolation_precision", "isolation_recall", "n_isolated", "n_poisoned", "seconds"),
        *PROVENANCE,
    ),
    optional=("asr_without_trigger",),  # the oldest rows have none
    supersedes=True,  # a cell of cifar10-long was measured again when ABL had been mended
)

#: Attack, share of all rows that is poisoned, seeds. SIG poisons rows of its target
#: class alone, a tenth of all: five per cent of all rows is half of them.
BADNETS = [("badnets", 0.10, (0, 1, 2))]
OTHERS = [("blend", 0.10, (0,)), ("sig", 0.05, (0,)), ("wanet", 0.10, (0,))]

# Schedules of some minutes. The networks that are kept, finetuned and clean, are trained
# for as many epochs as the undefended one.
_WRN: dict[str, Any] = {"backbone": "wrn-16-1"}


# The search of later defaults is measured by benchmarks/isolation.py.
def _abl(first: int, kept: int, recovery: int) -> ABLClassifier:
    """Return ABL with a fixed share, and its epochs."""
    cure = Mixed(epochs=5, recovery_epochs=recovery)
    return ABLClassifier(detector=LossRank(epochs=first), cure=cure, epochs=kept, **_WRN)


def _cbd(first: int, kept: int) -> CBDClassifier:
    """Return CBD as it was before f_B was searched, and its epochs."""
    detector, weighting = LossRank(ratio=None, epochs=first), RelativeLoss(rejection=0.25)
    return CBDClassifier(detector=detector, weighting=weighting, epochs=kept, **_WRN)


SETTINGS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "digits": (
        BADNETS + OTHERS,
        {
            "undefended": UndefendedClassifier(),
            "abl": ABLClassifier(),
            "cbd": CBDClassifier(),
        },
    ),
    "cifar10": (
        BADNETS,
        {
            "undefended": UndefendedClassifier(epochs=20, **_WRN),
            "abl": _abl(8, 20, 8),
            "cbd": _cbd(8, 20),
        },
    ),
    # As above with twice as long a stage one: is eight epochs of it enough?
    "cifar10-stage-one": (
        BADNETS,
        {
            "abl": _abl(15, 20, 8),
            "cbd": _cbd(15, 20),
        },
    ),
    # Long enough for plain training to learn the trigger under crops and flips, and about as
    # many epochs for each network that is kept.
    "cifar10-long": (
        BADNETS,
        {
            "undefended": UndefendedClassifier(epochs=40, **_WRN),
            "abl": _abl(15, 20, 8),
            "cbd": _cbd(15, 30),
        },
    ),
    # What fits into an hour for the other attacks: few epochs, and weak networks.
    "cifar10-short": (
        OTHERS,
        {
            "undefended": UndefendedClassifier(epochs=8, **_WRN),
            "abl": _abl(8, 8, 4),
            "cbd": _cbd(8, 8),
        },
    ),
}


def load(setting: str, data_root: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return X, X_test, y, y_test: pixels and labels."""
    if setting == "digits":
        X, y = load_digits_images()
        return train_test_split(X, y, stratify=y, random_state=0)
    return load_cifar10(data_root)


def cells(setting: str) -> list[dict[str, Any]]:
    """Every combination of a setting, those of one attack and seed together."""
    rows, defenses = SETTINGS[setting]
    return [
        {"attack": attack, "poison_rate": rate, "seed": seed, "defense": defense}
        for attack, rate, seeds in rows
        for seed in seeds
        for defense in defenses
    ]


def run(setting: str, cell: dict[str, Any], data_root: str) -> dict[str, Any]:
    """Train and measure one cell."""
    origin = provenance()  # of the code that has been imported, not of what lands meanwhile
    X, X_test, y, y_test = load(setting, data_root)
    X_bad, y_bad, poison_mask = make_poisoned(
        X,
        y,
        attack=cell["attack"],
        poison_rate=cell["poison_rate"],
        target_label=TARGET,
        random_state=cell["seed"],
    )
    clf = clone(SETTINGS[setting][1][cell["defense"]]).set_params(random_state=cell["seed"])
    started = time.perf_counter()
    clf.fit(X_bad, y_bad)
    seconds = time.perf_counter() - started

    triggered = make_attack(cell["attack"], target_label=TARGET).fit(X, y).transform(X_test)
    predicted, predicted_triggered = clf.predict(X_test), clf.predict(triggered)
    return {
        **cell,
        "ca": clean_accuracy(y_test, predicted),
        "asr": attack_success_rate(y_test, predicted_triggered, target_label=TARGET),
        # What the ASR of a network that ignores the trigger would be.
        "asr_without_trigger": attack_success_rate(y_test, predicted, target_label=TARGET),
        "r_acc": robust_accuracy(y_test, predicted_triggered, target_label=TARGET),
        "target_recall": target_recall(y_test, predicted, target_label=TARGET),
        "isolation_precision": isolation_precision(poison_mask, clf.isolate_mask_),
        "isolation_recall": isolation_recall(poison_mask, clf.isolate_mask_),
        "n_isolated": len(clf.isolate_),
        "n_poisoned": int(poison_mask.sum()),
        "seconds": seconds,
        **origin,
    }


def print_table(setting: str) -> None:
    """Print the finished cells as a Markdown table, in per cent."""
    path = RESULTS / f"{setting}.jsonl"
    rows = {ROWS.key(row): row for row in read_rows(path, ROWS)}
    print(
        "| attack | rate | seed | defence | CA | ASR | without trigger | R-Acc | target recall "
        "| isolated | precision | recall | seconds |"
    )
    print("|" + "---|" * 13)
    for cell in cells(setting):
        row = rows.get(ROWS.key(cell))
        if row is None:
            continue
        shares = ("ca", "asr", "asr_without_trigger", "r_acc", "target_recall")
        figures = " | ".join(f"{100 * row[name]:.1f}" if name in row else "-" for name in shares)
        found = " | ".join(
            f"{100 * row[name]:.1f}" if row["n_isolated"] else "-"
            for name in ("isolation_precision", "isolation_recall")
        )
        print(
            f"| {row['attack']} | {row['poison_rate']:.0%} | {row['seed']} | {row['defense']} "
            f"| {figures} | {row['n_isolated']} | {found} | {row['seconds']:.0f} |"
        )


def main() -> None:
    """Run the cells of this shard that are not finished."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("setting", choices=sorted(SETTINGS))
    parser.add_argument("--data-root", default="data", help="holds cifar-10-batches-py/")
    parser.add_argument("--shard", default="0/1", help="I/N: every N-th cell from the I-th")
    parser.add_argument("--defense", help="only the cells of this one")
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    arguments = parser.parse_args()
    out = RESULTS / f"{arguments.setting}.jsonl"
    if arguments.table:
        print_table(arguments.setting)
        return
    shard, n_shards = map(int, arguments.shard.split("/"))
    wanted = [
        cell for cell in cells(arguments.setting) if arguments.defense in (None, cell["defense"])
    ]
    for cell in wanted[shard::n_shards]:
        if ROWS.key(cell) in map(ROWS.key, resume_rows(out, ROWS)):
            continue
        row = run(arguments.setting, cell, arguments.data_root)
        append_row(out, row)
        print({name: row[name] for name in ("attack", "seed", "defense", "ca", "asr")}, flush=True)


if __name__ == "__main__":
    main()
