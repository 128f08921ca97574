"""How long the list takes without a classifier: `PoisonSearch().fit` beside `ABLClassifier().fit`.

    python benchmarks/list_alone.py --n-train 5000 --out benchmarks/results/list-alone.jsonl

Both are fitted on the same poisoned CIFAR-10 images with the same seed, one after the other in one
process. The row says how long each took, their ratio, and whether the lists are the same.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from _common import append_row, load_cifar10, provenance

from antibackdoor import ABLClassifier, PoisonSearch, make_poisoned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--n-train", type=int, default=5000)
    parser.add_argument("--attack", default="badnets")
    parser.add_argument("--backbone", default="wrn-16-1")
    parser.add_argument("--scale", type=float, default=1.0, help="of all epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    told = provenance()
    X, _, y, _ = load_cifar10(arguments.data_root, arguments.n_train)
    X, y, poison = make_poisoned(X, y, attack=arguments.attack, random_state=arguments.seed)
    same = {"backbone": arguments.backbone, "random_state": arguments.seed}
    epochs = {"search": round(20 * arguments.scale), "kept": round(60 * arguments.scale)}
    search = PoisonSearch(epochs=epochs["search"], **same)
    whole = ABLClassifier(
        detector=PoisonSearch(epochs=epochs["search"]), epochs=epochs["kept"], **same
    )
    seconds = {}
    for name, estimator in (("list", search), ("abl", whole)):
        started = time.perf_counter()
        estimator.fit(X, y)
        seconds[name] = round(time.perf_counter() - started, 1)
    # The classifier judges rows that were left open besides: its list holds the search's.
    row = {
        **told,
        **{key: value for key, value in vars(arguments).items() if key != "out"},
        "epochs": epochs,
        "seconds": seconds,
        "ratio": round(seconds["list"] / seconds["abl"], 3),
        "n_listed": len(search.isolate_),
        "n_of_classifier": len(whole.isolate_),
        "list_is_in_that_of_classifier": bool(whole.isolate_mask_[search.isolate_].all()),
        "tpr": round(float(search.isolate_mask_[poison].mean()), 4),
        "fpr": round(float(search.isolate_mask_[~poison].mean()), 4),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    append_row(arguments.out, row)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
