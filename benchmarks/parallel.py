"""One fit by one process and by several: how far apart they end, and how fast each is.

    python benchmarks/parallel.py --processes 2

Random images of CIFAR-10's shape, so that nothing is to be learned but by heart: the differences
are those of rounding, after as many steps as are asked for. Give each process cores, or a GPU, of
its own; with `OMP_NUM_THREADS` one process has as many threads as each of several.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from antibackdoor import UndefendedClassifier


def fit(arguments: argparse.Namespace) -> None:
    """Fit, and write down what came out, on the first process."""
    rng = np.random.RandomState(0)
    X = rng.randint(0, 256, (arguments.n, 32, 32, 3), dtype=np.uint8)
    y = np.arange(arguments.n) % 10
    clf = UndefendedClassifier(
        backbone=arguments.backbone,
        epochs=arguments.epochs,
        learning_rate=0.01,
        random_state=0,
    ).fit(X, y)
    if int(os.environ.get("RANK", "0")) == 0:
        losses = [row["loss"] for row in clf.history_]
        # The first epoch pays for what is loaded and planned once.
        seconds = sum(row["seconds"] for row in clf.history_[1:])
        logits = clf.decision_function(X[:100]).tolist()
        found = {"losses": losses, "seconds": seconds, "logits": logits}
        arguments.fit_to.write_text(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--n", type=int, default=384, help="images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--backbone", default="wrn-16-1")
    parser.add_argument("--fit-to", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit_to is not None:
        fit(arguments)
        return
    found = {}
    with tempfile.TemporaryDirectory() as place:
        answer = Path(place) / "answer.json"
        for n_processes in (1, arguments.processes):
            launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={n_processes}"]
            words = [__file__, *sys.argv[1:], "--fit-to", str(answer)]
            subprocess.run(
                [sys.executable, *(launcher if n_processes > 1 else []), *words], check=True
            )
            found[n_processes] = json.loads(answer.read_text())
            speed = arguments.n * (arguments.epochs - 1) / found[n_processes]["seconds"]
            print(f"{n_processes} processes: {speed:.0f} images/s", flush=True)
    one, several = found[1], found[arguments.processes]
    for name in ("losses", "logits"):
        difference = np.abs(np.asarray(one[name]) - np.asarray(several[name])).max()
        print(f"largest difference of {name}: {difference:.1e}")


if __name__ == "__main__":
    main()
