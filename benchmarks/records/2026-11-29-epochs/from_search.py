"""Does a final network that goes on from one of the search learn in half of the epochs?

    PYTHONPATH=../..:../../.. python from_search.py --data-root ../../../../shared/data --cache DIR

The first 5,000 images of CIFAR-10 as they are, wrn-16-1. The search is trained once, in DIR. Rows
to from-search.jsonl.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from _common import append_row, load_cifar10, provenance

from antibackdoor import ABLClassifier, Retrain
from antibackdoor.defenses import Cure, Cured
from antibackdoor.training import CrossEntropy


class GoOn(Cure):
    """Train the network of the search further."""

    def _train(self, run, detection, epochs):
        network = detection.network
        network.resize_head(len(run.classes))
        run.phase("finetune", network, CrossEntropy(), epochs=epochs)
        return Cured(network, detection.isolation, unlearned=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--cache", required=True)
    options = parser.parse_args()
    source = provenance()
    X, X_test, y, y_test = load_cifar10(options.data_root)
    for epochs in (12, 25):
        for cure in (GoOn(), Retrain()):
            clf = ABLClassifier(
                cure=cure,
                epochs=epochs,
                backbone="wrn-16-1",
                cache_dir=options.cache,
                random_state=0,
            ).fit(X, y)
            row = {
                "start": "search" if isinstance(cure, GoOn) else "new",
                "epochs": epochs,
                "CA": 100 * clf.score(X_test, y_test),
                "flagged": len(clf.isolate_),
                "p": clf.isolate_pvalue_,
                **source,
            }
            append_row(Path(__file__).with_name("from-search.jsonl"), row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
