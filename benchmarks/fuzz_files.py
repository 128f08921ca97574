"""Hostile model files: each is loaded and used in a process of its own, with little memory.

    OMP_NUM_THREADS=1 python benchmarks/fuzz_files.py --mutations 10000 --seed 0 --progress p.jsonl

A fitted model of every classifier, detector and attack is taken apart and changed: other numbers,
types, shapes and values, attributes that are missing, new, swapped or of another class, sizes
that agree with each other and are far too large, detectors and cures that no fit takes, heads
that lie, changed bytes. A child process may then take `max_bytes` and a quarter more. It may load
the file and use it, or end in a ValueError or TypeError. Run again with the same `--progress`, it
goes on.
Exit code 1 where one of them did anything else.
"""

from __future__ import annotations

import argparse
import collections
import gc
import json
import os
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

# Before numpy is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from _hostile_files import State, hostile_file, to_file
from sklearn.base import clone

from antibackdoor import load_model
from antibackdoor.attacks import BaseAttack, LearnedAttack
from antibackdoor.benchmark import RowFormat
from antibackdoor.defenses import Mixed, RelativeLoss
from antibackdoor.detection import BaseDetector, LossRank, PoisonSearch
from antibackdoor.persistence._save import _without_own
from antibackdoor.persistence._types import MODELS

MAX_BYTES = 64 * 2**20
#: What is over it, as the rule has it; and what Python takes for a traceback.
MOST_BYTES = MAX_BYTES * 5 // 4
MOST_SECONDS = 60
ALLOWED = (ValueError, TypeError)

N_ROWS = 24
LABELS = np.arange(N_ROWS) % 3

# --- good states


def images(n: int, dtype: str = "uint8") -> np.ndarray:
    """Return random images of 8 x 8 pixels."""
    values = np.random.default_rng(0).integers(0, 256, (n, 8, 8))
    return (values if dtype == "uint8" else values / 255).astype(dtype)


def fit_quickly(kind: Any, dtype: str = "uint8") -> Any:
    """Fit a model as briefly as its parameters allow."""
    few = {"size": 2, "batch_size": 8, "n_surrogates": 2, "random_state": 0, "steps": 1}
    few |= {"backbone": "small-cnn", "surrogate": "small-cnn"}
    few |= {"detector": LossRank(epochs=1, ratio=0.25), "cure": Mixed(epochs=1, recovery_epochs=1)}
    few |= {"weighting": RelativeLoss(compare="last")}
    names = kind._get_param_names()
    settings = {name: 1 for name in names if name.endswith("epochs")}
    settings |= {name: value for name, value in few.items() if name in names}
    with warnings.catch_warnings(action="ignore"):  # so few classes are not searched
        model = kind(**settings).fit(images(N_ROWS, dtype), LABELS)
    if isinstance(model, PoisonSearch):
        signs = ("diversity", "foreignness", "transplant", "relabelling")
        model.isolate_signs_ = {name: np.array([0.5, np.nan, 0.1]) for name in signs}
        model.isolate_pvalue_ = 0.01
    return model


def good_states(kinds: Any = None) -> list[tuple[type, State]]:
    """Return the state of every model there is, of whole numbers and of floats in turn."""
    states = []
    for number, kind in enumerate(MODELS.values() if kinds is None else kinds):
        model, _ = _without_own(fit_quickly(kind, ("uint8", "float64")[number % 2]))
        states.append((kind, dict(model.__getstate__())))
    return states


# --- what comes of it


def use(model: Any) -> None:
    """Ask a loaded model about one row, in all ways that do not train."""
    if isinstance(model, BaseAttack):
        row = np.full((1, *model.input_shape_), model.value_range_[0]).astype(model._fit_dtype)
        model.transform(row)
        if hasattr(model, "classes_"):
            model.transform_target(model.classes_[:3])
        if not isinstance(model, LearnedAttack):
            model.transform_training(row, LABELS[:1], random_state=0)
        if model.cover_ratio:
            model.transform_cover(row, LABELS[:1], random_state=0)
        return
    if isinstance(model, BaseDetector):
        flagged = np.flatnonzero(model.isolate_mask_)
        assert sorted(model.isolate_) == list(flagged)
        assert np.isin(model.isolate_classes_, model.classes_).all()
        for of_classes in model.isolate_signs_.values():
            assert of_classes.shape == model.classes_.shape
        repr(clone(model))
        return
    row = np.zeros((1, *model.input_shape_), "u1" if model._fitted_with["uint8"] else "f8")
    model.predict(row)
    model.predict_proba(row)
    model.decision_function(row)


def is_short_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it came from, is the end of the memory."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def in_child(path: Path, task: Callable[[Path], object], most_bytes: int = MOST_BYTES) -> str:
    """Do something in a forked process with so much memory more, and say what came of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, outcome_of(path, task, most_bytes).encode()[:2000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"OFFENCE: ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return said or f"OFFENCE: exit status {status}"


def outcome_of(path: Path, task: Callable[[Path], object], most_bytes: int) -> str:
    signal.alarm(MOST_SECONDS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + most_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            task(path)
        return "used"
    except ALLOWED as error:
        if is_short_of_memory(error):
            return f"OFFENCE: takes too much memory: {error}"
        return f"{type(error).__name__}: {str(error).removeprefix(str(path))[:200]}"
    except BaseException as error:
        return f"OFFENCE: raises {type(error).__name__}: {error}"


def load_and_use(path: Path) -> None:
    use(load_model(path, max_bytes=MAX_BYTES))


def fuzz(states: Any, numbers: Any, seed: int, tell: Callable[[int, str, str], None]) -> None:
    """Try files, and tell of each its number, its class and what came of it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hostile.safetensors"
        for kind, state in states:  # what is imported late counts for nobody
            path.write_bytes(to_file(kind, state))
            load_and_use(path)
        gc.collect()
        gc.freeze()  # a child that collects would copy all that its parent has
        for number in numbers:
            name, content = hostile_file(states, seed, number)
            path.write_bytes(content)
            tell(number, name, in_child(path, load_and_use))


#: What `--progress` keeps of each file.
PROGRESS = RowFormat(key=itemgetter("number"), columns=("number", "name", "outcome"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this one, in this process, with its traceback")
    parser.add_argument(
        "--progress", type=Path, help="a line for each; what is there is not redone"
    )
    parser.add_argument("--out", type=Path, help="file that a row of results is added to")
    arguments = parser.parse_args()
    from _common import append_row, provenance, resume_rows

    origin = provenance()
    states = good_states()
    if arguments.only is not None:
        name, content = hostile_file(states, arguments.seed, arguments.only)
        path = Path(tempfile.mkdtemp()) / "hostile.safetensors"
        path.write_bytes(content)
        print(name, path, flush=True)
        load_and_use(path)
        return
    done: dict[int, tuple[str, str]] = {}
    if arguments.progress is not None:
        rows = resume_rows(arguments.progress, PROGRESS)
        done = {row["number"]: (row["name"], row["outcome"]) for row in rows}

    def tell(number: int, name: str, outcome: str) -> None:
        done[number] = (name, outcome)
        if arguments.progress is not None:
            append_row(arguments.progress, {"number": number, "name": name, "outcome": outcome})
        if outcome.startswith("OFFENCE"):
            print(number, name, outcome, file=sys.stderr, flush=True)

    wanted = range(arguments.mutations)
    fuzz(states, [number for number in wanted if number not in done], arguments.seed, tell)
    outcomes = collections.Counter(outcome.split(":")[0] for _, outcome in done.values())
    row = {
        "command": "python benchmarks/fuzz_files.py "
        f"--mutations {arguments.mutations} --seed {arguments.seed}",
        "mutations": len(done),
        "models": len(states),
        "max_bytes": MAX_BYTES,
        "outcomes": dict(outcomes.most_common()),
        **origin,
    }
    print(json.dumps(row))
    if arguments.out is not None:
        append_row(arguments.out, row)
    sys.exit("OFFENCE" in outcomes)


if __name__ == "__main__":
    main()
