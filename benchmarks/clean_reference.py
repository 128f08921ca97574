"""What a network trained on clean data makes of triggered images, to compare R-Acc and ASR with.

    python benchmarks/clean_reference.py --data-root ../shared/data --cache build/attacks
    python benchmarks/clean_reference.py --table

One network, trained as in benchmarks/isolation.py (the first 5,000 images of CIFAR-10, `wrn-16-1`,
20 epochs without augmentation) but on their true labels, and no poison. A trigger hides a part of
the image; what is recognised beneath it by a network that has never seen it is what a defence is
measured by, though one that has been shown it may do better. An attack is a line of JSON in
benchmarks/results/clean-reference.jsonl; the file is written anew.
"""

from __future__ import annotations

import argparse
import json
import os
from operator import itemgetter
from pathlib import Path

# Before torch is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from _common import PROVENANCE, load_cifar10, provenance
from attacks import fitted

from antibackdoor import UndefendedClassifier
from antibackdoor.attacks import ATTACKS
from antibackdoor.benchmark import RowFormat, read_rows
from antibackdoor.metrics import clean_accuracy

RESULTS = Path(__file__).parent / "results" / "clean-reference.jsonl"
TARGET = 0
_FIGURES = ("ca", "target_recall", "target_recall_triggered", "r_acc", "asr")
ROWS = RowFormat(key=itemgetter("attack"), columns=("attack", *_FIGURES, *PROVENANCE))


def print_table() -> None:
    """Print the rows as a Markdown table, in per cent."""
    print("| attack | CA | target recall | the same, triggered | R-Acc | to the target |")
    print("|" + "---|" * 6)
    for row in read_rows(RESULTS, ROWS):
        figures = [row[name] for name in _FIGURES]
        print(f"| {row['attack']} | {' | '.join(f'{100 * figure:.1f}' for figure in figures)} |")


def main() -> None:
    """Train the network, and show it every trigger."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", default="data", help="holds cifar-10-batches-py/")
    parser.add_argument("--cache", type=Path, default=Path("build/attacks"), help="fitted attacks")
    parser.add_argument("--only", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    arguments = parser.parse_args()
    if arguments.table:
        print_table()
        return
    origin = provenance()  # of the code that has been imported, not of what lands meanwhile
    X, X_test, y, y_test = load_cifar10(arguments.data_root)
    clf = UndefendedClassifier(backbone="wrn-16-1", epochs=20, augment=None, random_state=0)
    predicted = clf.fit(X, y).predict(X_test)
    of_network = {
        "ca": clean_accuracy(y_test, predicted),
        "target_recall": float((predicted == y_test)[y_test == TARGET].mean()),
    }
    lines = []
    for name in arguments.only:
        attack, _ = fitted(name, X, y, arguments.cache)
        victims = attack.transform_target(y_test) != y_test
        truth, given = y_test[victims], clf.predict(attack.transform(X_test[victims]))
        of_attack = {
            "r_acc": float((given == truth).mean()),
            "asr": float(attack.succeeded(truth, given).mean()),
            "target_recall_triggered": float(
                (clf.predict(attack.transform(X_test[y_test == TARGET])) == TARGET).mean()
            ),
        }
        lines.append(json.dumps({"attack": name} | of_network | of_attack | origin))
    RESULTS.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
