"""Undefended, ABL and CBD on the first 5,000 images of CIFAR-10, attack by attack.

    python benchmarks/cifar10_small.py --data-root ../shared/data --shard 0/2 &
    python benchmarks/cifar10_small.py --data-root ../shared/data --shard 1/2 &
    python benchmarks/cifar10_small.py --table

Each cell is written to a line of JSON when it is finished, and a second run takes
up where the first one was stopped. One thread a process: start as many processes
(shards) as there are cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

# Before torch is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import sklearn
import torch
from torchvision.datasets import CIFAR10

from antibackdoor import ABLClassifier, CBDClassifier, UndefendedClassifier, make_poisoned
from antibackdoor.attacks import make_attack
from antibackdoor.metrics import (
    attack_success_rate,
    clean_accuracy,
    isolation_precision,
    isolation_recall,
    robust_accuracy,
    target_recall,
)

N_TRAIN = 5_000
EPOCHS = 20
TARGET = 0
RESULTS = Path(__file__).parent / "results" / "cifar10_small.jsonl"

#: Attack, share of all rows that is poisoned, seeds. SIG poisons rows of its target
#: class alone, of which there are 505: five per cent of all rows is half of them.
ROWS = [
    ("badnets", 0.10, (0, 1, 2)),
    ("blend", 0.10, (0,)),
    ("sig", 0.05, (0,)),
    ("wanet", 0.10, (0,)),
]

DEFENSES = {
    "undefended": lambda: UndefendedClassifier(epochs=EPOCHS),
    "abl": lambda: ABLClassifier(
        isolation_epochs=8, finetune_epochs=EPOCHS, unlearning_epochs=5, recovery_epochs=8
    ),
    "cbd": lambda: CBDClassifier(backdoor_epochs=8, clean_epochs=EPOCHS),
}


def cells() -> list[dict[str, Any]]:
    """Every combination, those of one attack and seed together."""
    return [
        {"attack": attack, "poison_rate": rate, "seed": seed, "defense": defense}
        for attack, rate, seeds in ROWS
        for seed in seeds
        for defense in DEFENSES
    ]


def run(cell: dict[str, Any], data_root: str) -> dict[str, Any]:
    """Train and measure one cell."""
    train = CIFAR10(data_root, train=True)
    test = CIFAR10(data_root, train=False)
    X, y = train.data[:N_TRAIN], np.asarray(train.targets[:N_TRAIN])
    X_test, y_test = test.data, np.asarray(test.targets)
    X_bad, y_bad, poison_mask = make_poisoned(
        X,
        y,
        attack=cell["attack"],
        poison_rate=cell["poison_rate"],
        target_label=TARGET,
        random_state=cell["seed"],
    )
    clf = DEFENSES[cell["defense"]]()
    clf.set_params(backbone="wrn-16-1", random_state=cell["seed"])
    started = time.perf_counter()
    clf.fit(X_bad, y_bad)
    seconds = time.perf_counter() - started

    triggered = make_attack(cell["attack"], target_label=TARGET).fit(X, y).transform(X_test)
    predicted, predicted_triggered = clf.predict(X_test), clf.predict(triggered)
    return {
        **cell,
        "ca": clean_accuracy(y_test, predicted),
        "asr": attack_success_rate(y_test, predicted_triggered, target_label=TARGET),
        "r_acc": robust_accuracy(y_test, predicted_triggered, target_label=TARGET),
        "target_recall": target_recall(y_test, predicted, target_label=TARGET),
        "isolation_precision": isolation_precision(poison_mask, clf.isolate_mask_),
        "isolation_recall": isolation_recall(poison_mask, clf.isolate_mask_),
        "n_isolated": len(clf.isolate_),
        "n_poisoned": int(poison_mask.sum()),
        "seconds": seconds,
        "commit": _git_commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} used",
    }


def print_table(path: Path) -> None:
    """Print the finished cells as a Markdown table, in per cent."""
    rows = {_key(row): row for row in map(json.loads, path.read_text().splitlines())}
    print(
        "| attack | rate | seed | defence | CA | ASR | R-Acc | target recall "
        "| isolated | precision | recall | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for cell in cells():
        row = rows.get(_key(cell))
        if row is None:
            continue
        shares = ("ca", "asr", "r_acc", "target_recall")
        figures = " | ".join(f"{100 * row[name]:.1f}" for name in shares)
        found = " | ".join(
            f"{100 * row[name]:.1f}" if row["n_isolated"] else "-"
            for name in ("isolation_precision", "isolation_recall")
        )
        print(
            f"| {row['attack']} | {row['poison_rate']:.0%} | {row['seed']} | {row['defense']} "
            f"| {figures} | {row['n_isolated']} | {found} | {row['seconds']:.0f} |"
        )


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["attack"], row["poison_rate"], row["seed"], row["defense"])


def _git_commit() -> str:
    answer = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def main() -> None:
    """Run the cells of this shard that are not finished."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", default="../shared/data", help="holds cifar-10-batches-py/")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--shard", default="0/1", help="I/N: every N-th cell from the I-th")
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    arguments = parser.parse_args()
    if arguments.table:
        print_table(arguments.out)
        return
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    shard, n_shards = map(int, arguments.shard.split("/"))
    for cell in cells()[shard::n_shards]:
        finished = arguments.out.read_text().splitlines() if arguments.out.exists() else []
        if _key(cell) in {_key(json.loads(line)) for line in finished}:
            continue
        row = run(cell, arguments.data_root)
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({name: row[name] for name in ("attack", "seed", "defense", "ca", "asr")}, flush=True)


if __name__ == "__main__":
    main()
