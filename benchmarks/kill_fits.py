"""A fit that is killed at random moments ends with the bytes of an unbroken one.

    python benchmarks/kill_fits.py --kills 200

Digits, small fits of ABL and CBD with `cache_dir`. Each kill is a SIGKILL at a random moment
between the start of the fit and the time that a whole one took; then the fit is called again.
Compared are weights, flags, scores, history and predictions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch._dynamo  # noqa: E402, F401  an optimiser imports it; here it is imported once for all

from antibackdoor import (  # noqa: E402
    ABLClassifier,
    Ascent,
    CBDClassifier,
    LossRank,
    Mixed,
    PoisonSearch,
    make_poisoned,
)
from antibackdoor.datasets import load_digits_images  # noqa: E402

# Of one fit: where the machine is busy, kills come too soon for an epoch between them.
_MOST_KILLS = 8
_SMALL = {"batch_size": 32, "random_state": 0, "device": "cpu"}

#: Fits that together run every phase of both methods.
FITS: dict[str, Callable[..., ABLClassifier | CBDClassifier]] = {
    "abl, searched": partial(ABLClassifier, detector=PoisonSearch(epochs=2), epochs=2, **_SMALL),
    "abl, mixed": partial(
        ABLClassifier,
        detector=LossRank(ratio=0.05, epochs=3, batch_size=32),
        cure=Mixed(epochs=3, recovery_epochs=3),
        epochs=3,
        **_SMALL,
    ),
    "abl, ascent": partial(
        ABLClassifier,
        detector=LossRank(ratio=0.05, epochs=3, batch_size=32),
        cure=Ascent(epochs=5),
        epochs=3,
        **_SMALL,
    ),
    "cbd, searched": partial(CBDClassifier, detector=PoisonSearch(epochs=2), epochs=3, **_SMALL),
    "cbd, all terms": partial(
        CBDClassifier.from_paper,
        detector__epochs=3,
        detector__batch_size=32,
        detector__augment=None,
        epochs=5,
        augment=None,
        **_SMALL,
    ),
}


def fit(name: str, directory: str | None, answer: Path) -> None:
    """Fit, and write down what came out."""
    X, y = load_digits_images()[:2]
    X, y, _ = make_poisoned(X[:250], y[:250], attack="badnets", poison_rate=0.1, random_state=0)
    clf = FITS[name](cache_dir=directory).fit(X, y)
    digest = hashlib.sha256()
    arrays = [weights.numpy() for weights in clf.module_.state_dict().values()]
    for array in [*arrays, clf.isolate_, clf.isolate_scores_, clf.predict(X)]:
        digest.update(array.tobytes())
    history = [[value for key, value in row.items() if key != "seconds"] for row in clf.history_]
    found = {"digest": digest.hexdigest(), "history": history}
    answer.write_text(json.dumps(found))


def run_until(name: str, directory: str | None, answer: Path, seconds: float) -> bool:
    """Fit in a process of its own, and kill it after some seconds; tell whether that was needed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            fit(name, directory, answer)
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if status:
                raise SystemExit(f"the fit of {name} failed: see above")
            return False
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def stopped_in(directory: str) -> str:
    """Name the phase that was written last, or say that there is none."""
    written = sorted(Path(directory).glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    return written[-1].name.rpartition("-")[0] if written else "before its first epoch was over"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    n_kills, n_equal, n_fits = 0, 0, 0
    stops: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        answer = Path(place) / "answer.json"
        wanted, seconds = {}, {}
        for name in FITS:
            started = time.perf_counter()
            run_until(name, None, answer, float("inf"))
            seconds[name] = time.perf_counter() - started
            wanted[name] = json.loads(answer.read_text())
            print(
                f"{name}: {seconds[name]:.1f} s, {len(wanted[name]['history'])} epochs", flush=True
            )
        while n_kills < arguments.kills:
            name = list(FITS)[n_fits % len(FITS)]
            n_fits += 1
            with tempfile.TemporaryDirectory(dir=place) as directory:
                for _ in range(min(_MOST_KILLS, arguments.kills - n_kills)):
                    if not run_until(name, directory, answer, rng.uniform(0, seconds[name])):
                        break
                    n_kills += 1
                    stops[f"{name}: {stopped_in(directory)}"] += 1
                else:
                    run_until(name, directory, answer, float("inf"))
            n_equal += json.loads(answer.read_text()) == wanted[name]
            answer.unlink()
    for stop, times in sorted(stops.items()):
        print(f"{times:4d} stopped in {stop}")
    print(f"{n_kills} kills in {n_fits} fits; {n_equal} of them end as the unbroken ones")
    sys.exit(n_equal < n_fits)


if __name__ == "__main__":
    main()
