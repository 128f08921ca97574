"""Isolation that sizes itself, attack by attack, and the classifier it leads to.

    python benchmarks/isolation.py --data-root ../shared/data --shard 0/2 &
    python benchmarks/isolation.py --data-root ../shared/data --shard 1/2 &
    python benchmarks/isolation.py --table

`ABLClassifier` at its defaults but for the schedule (20 epochs of fine-tuning, no augmentation:
compare with benchmarks/attacks.py, which trains without a defence in the same way), `wrn-16-1`, the
first 5,000 images of CIFAR-10 or as many as --train says, 10,000 test images. Attacks that learn
their trigger, from the first 5,000, are taken from the --cache of benchmarks/attacks.py. Each
finished cell is a line of JSON in benchmarks/results/isolation.jsonl; a second run takes up where
the first one was stopped.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

# Before torch is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _common import PROVENANCE, append_row, load_cifar10, provenance, resume_rows
from attacks import CLEAN_RATE, DIRTY_RATE, fitted

from antibackdoor import ABLClassifier, make_poisoned
from antibackdoor.benchmark import RowFormat, read_rows
from antibackdoor.metrics import clean_accuracy

RESULTS = Path(__file__).parent / "results" / "isolation.jsonl"
TARGET = 0
N_TRAIN = 5_000

#: On which the method and its constants were chosen; the others only report, but that trojan,
#: lf, dynamic, lba, cba and cl have been looked at too (RESULTS.md says for what).
DESIGN = ["badnets", "blend", "sig", "ssba", "wanet", "adaptive-blend", "badnets-all-to-all"]
REPORT = ["trojan", "lf", "dynamic", "dfst", "lba", "cba", "cl", "adaptive-cbd", "fc"]
#: Clean-label attacks poison rows of their target class alone, a tenth of all.
CLEAN_LABEL = ("sig", "cl", "fc")
RATES = {
    name: (0.005, 0.01, 0.05) if name in CLEAN_LABEL else (0.005, 0.01, 0.05, 0.20)
    for name in ("badnets", "blend", "sig", "wanet")
}


def cells(seed: int, n_train: int = N_TRAIN) -> list[dict[str, Any]]:
    """Every attack at its main rate, one of each half in turn; then other rates of some."""
    names = [name for pair in zip(REPORT, [*DESIGN, "none", "none"], strict=True) for name in pair]
    main = [(name, CLEAN_RATE if name in CLEAN_LABEL else DIRTY_RATE) for name in names]
    others = [(name, rate) for name, rates in RATES.items() for rate in rates]
    unique = dict.fromkeys([*main, *others])
    return [
        {"attack": name, "poison_rate": rate, "seed": seed, "n_train": n_train}
        for name, rate in unique
    ]


def run(
    cell: dict[str, Any], data_root: str, cache: Path, cache_dir: str | None = None
) -> dict[str, Any]:
    """Poison, fit and measure one cell."""
    origin = provenance()  # of the code that has been imported, not of what lands meanwhile
    X, X_test, y, y_test = load_cifar10(data_root, max(N_TRAIN, cell["n_train"]))
    # Attacks that learn their trigger are kept by name: they see the same images in every cell.
    X_attack, y_attack = X[:N_TRAIN], y[:N_TRAIN]
    X, y = X[: cell["n_train"]], y[: cell["n_train"]]
    poison_mask = np.zeros(len(y), dtype=bool)
    X_bad, y_bad = X, y
    if cell["attack"] != "none":
        attack, _ = fitted(cell["attack"], X_attack, y_attack, cache)
        X_bad, y_bad, poison_mask = make_poisoned(
            X, y, attack=attack, poison_rate=cell["poison_rate"], random_state=cell["seed"]
        )
    clf = ABLClassifier(
        backbone="wrn-16-1",
        epochs=20,
        augment=None,
        cache_dir=cache_dir,
        random_state=cell["seed"],
    )
    started = time.perf_counter()
    clf.fit(X_bad, y_bad)
    seconds = time.perf_counter() - started
    predicted = clf.predict(X_test)
    flagged = clf.isolate_mask_
    row = {
        **cell,
        "n_poisoned": int(poison_mask.sum()),
        "n_isolated": int(flagged.sum()),
        "fpr": float(flagged[~poison_mask].mean()),
        "p_value": clf.isolate_pvalue_,
        "classes": clf.isolate_classes_.tolist(),
        "signs": {name: values.tolist() for name, values in clf.isolate_signs_.items()},
        "ca": clean_accuracy(y_test, predicted),
        "target_recall": float((predicted == y_test)[y_test == TARGET].mean()),
        "seconds": seconds,
        "epochs": Counter(epoch["phase"] for epoch in clf.history_),
    }
    if cell["attack"] != "none":
        wanted = attack.transform_target(y_test)
        victims = wanted != y_test
        truth = y_test[victims]
        given = clf.predict(attack.transform(X_test[victims]))
        row |= {
            "tpr": float(flagged[poison_mask].mean()),
            "asr": float(attack.succeeded(truth, given).mean()),
            "asr_without_trigger": float(attack.succeeded(truth, predicted[victims]).mean()),
            "r_acc": float((given == truth).mean()),
            # A cure must not make of the trigger a sign against its class.
            "target_recall_triggered": float(
                (clf.predict(attack.transform(X_test[y_test == TARGET])) == TARGET).mean()
            ),
        }
    return row | origin


def print_table() -> None:
    """Print the finished cells as a Markdown table, in per cent."""
    rows = {_key(row): row for row in read_rows(RESULTS, ROWS)}
    sets = sorted({(n_train, seed) for n_train, seed, *_ in rows})
    print(
        "| attack | rate | images | seed | p | classes | flagged | TPR | FPR | CA | ASR "
        "| without trigger | R-Acc | target recall | triggered | epochs before fine-tuning |"
    )
    print("|" + "---|" * 16)
    for cell in [cell for n_train, seed in sets for cell in cells(seed, n_train)]:
        row = rows.get(_key(cell))
        if row is None:
            continue
        shares = ("tpr", "fpr", "ca", "asr", "asr_without_trigger", "r_acc")
        shares += ("target_recall", "target_recall_triggered")
        figures = [f"{100 * row[name]:.1f}" if name in row else "" for name in shares]
        figures[1] = f"{100 * row['fpr']:.2f}"
        rate = f"{row['poison_rate']:.1%}" if row["n_poisoned"] else ""
        before = sum(n for phase, n in row["epochs"].items() if phase != "finetune")
        print(
            f"| {row['attack']} | {rate} | {cell['n_train']} | {row['seed']} "
            f"| {row['p_value']:.0e} "
            f"| {', '.join(map(str, row['classes']))} | {row['n_isolated']} "
            f"| {' | '.join(figures)} | {before} |"
        )


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    # Rows of before there was a choice do not say how many images they are of.
    return (row.get("n_train", N_TRAIN), row["seed"], row["attack"], row["poison_rate"])


ROWS = RowFormat(
    key=_key,
    columns=(
        *("attack", "poison_rate", "seed", "n_poisoned", "n_isolated", "fpr", "p_value"),
        *("classes", "ca", "target_recall", "seconds", "epochs", *PROVENANCE),
    ),
    # Clean data has no attack to measure, and the oldest rows say less.
    optional=(
        *("tpr", "asr", "asr_without_trigger", "r_acc", "signs", "target_recall_triggered"),
        "n_train",
    ),
    supersedes=True,  # cells were measured again after changes of the search
)


def main() -> None:
    """Run the cells of this shard that are not finished."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", default="data", help="holds cifar-10-batches-py/")
    parser.add_argument("--cache", type=Path, default=Path("build/attacks"), help="fitted attacks")
    parser.add_argument("--cache-dir", help="keeps phases; seconds are then of the others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="attacks; all by default")
    parser.add_argument("--rates", type=float, nargs="+", help="poisoning rates; all by default")
    parser.add_argument("--train", type=int, default=N_TRAIN, help="training images")
    parser.add_argument("--shard", default="0/1", help="I/N: every N-th cell from the I-th")
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    arguments = parser.parse_args()
    if arguments.table:
        print_table()
        return
    shard, n_shards = map(int, arguments.shard.split("/"))
    wanted = [
        cell
        for cell in cells(arguments.seed, arguments.train)
        if (arguments.only is None or cell["attack"] in arguments.only)
        and (arguments.rates is None or cell["poison_rate"] in arguments.rates)
    ]
    for cell in wanted[shard::n_shards]:
        if _key(cell) in map(_key, resume_rows(RESULTS, ROWS)):
            continue
        row = run(cell, arguments.data_root, arguments.cache, arguments.cache_dir)
        append_row(RESULTS, row)
        print({name: row.get(name) for name in ("attack", "tpr", "fpr", "ca", "asr")}, flush=True)


if __name__ == "__main__":
    main()
