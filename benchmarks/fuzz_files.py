"""Hostile model files: each is loaded and used in a process of its own, with little memory.

    OMP_NUM_THREADS=1 python benchmarks/fuzz_files.py --mutations 10000 --seed 0 --progress p.jsonl

A fitted model of every classifier and every attack is taken apart and changed: other numbers,
types, shapes and values, attributes that are missing, new, swapped or of another class, sizes
that agree with each other and are far too large, headers of arrays that lie, changed bytes. A
child process may then take `max_bytes` and a quarter more. It may load the file and use it, or
end in a ValueError or TypeError. Run again with the same `--progress`, it goes on.
Exit code 1 where one of them did anything else.
"""

from __future__ import annotations

import argparse
import collections
import copy
import dataclasses
import gc
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before numpy is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import skops.io
import torch

from antibackdoor import load_model
from antibackdoor.attacks import BaseAttack, LearnedAttack
from antibackdoor.persistence._save import _without_own
from antibackdoor.persistence._types import MODELS

MAX_BYTES = 64 * 2**20
#: What is over it, as the rule has it; and what Python takes for a traceback.
MOST_BYTES = MAX_BYTES * 5 // 4
MOST_SECONDS = 60
ALLOWED = (ValueError, TypeError)

N_ROWS = 24
LABELS = np.arange(N_ROWS) % 3
NUMBERS = [
    *(0, -1, 1, 2, 3, 7, 8, 9, 64, 255, 624, 10**4, 10**6, 2**31, -(2**31), 2**40, 2**63, -(2**63)),
    *(
        10**18,
        10**30,
        10**400,
        0.5,
        -0.5,
        7.0,
        1e-320,
        1e38,
        1e300,
        -1e300,
        np.nan,
        np.inf,
        -np.inf,
    ),
    *(True, False),
]
OTHERS = [
    *(None, "", "x", "a" * 10**5, [], {}, (), [1], [[1], [2, 3]], (8, 8), {"a": 1}, [None] * 3),
    *("mlp", "small-cnn", "wrn-16-1", "wrn-10-5000", "wrn-40004-1", "resnet18", "vit_b_16"),
    *("squeezenet1_0", "swin_v2_t", "maxvit_t", "auto", "float64", "channels_last", "none"),
    *(np.zeros(0), np.zeros((0, 8)), np.array(3), np.arange(5), np.full(3, "x"), np.zeros((8, 8))),
    *(np.array(["a", "b", "c"], dtype=object), np.float64(2), np.int8(3), np.random.RandomState(0)),
]
DTYPES = ["u1", "i1", "i4", "i8", "f2", "f4", "f8", "g", ">f4", ">i8", "?", "U3", "S3"]
HEADERS = [
    (b"'shape': (", b"'shape': (9"),
    (b"'shape': (", b"'shape': (-"),
    (b"'shape': (", b"'shape': (0, "),
    (b"<f8", b"<U0"),
    (b"<f8", b"|O8"),
    (b"<f4", b"<i4"),
    (b"<f4", b"|S0"),
    (b"<i8", b"|V8"),
    (b"|u1", b"|S1"),
    (b"False", b"True "),
]

State = dict[str, Any]


# --- good states


def images(n: int, dtype: str = "uint8") -> np.ndarray:
    """Return random images of 8 x 8 pixels."""
    values = np.random.default_rng(0).integers(0, 256, (n, 8, 8))
    return (values if dtype == "uint8" else values / 255).astype(dtype)


def fit_quickly(kind: Any, dtype: str = "uint8") -> Any:
    """Fit a model as briefly as its parameters allow."""
    few = {"size": 2, "batch_size": 8, "n_surrogates": 2, "random_state": 0, "steps": 1}
    few |= {"backbone": "small-cnn", "surrogate": "small-cnn"}
    names = kind._get_param_names()
    settings = {name: 1 for name in names if name.endswith("epochs")}
    settings |= {name: value for name, value in few.items() if name in names}
    return kind(**settings).fit(images(N_ROWS, dtype), LABELS)


def good_states(kinds: Any = None) -> list[tuple[type, State]]:
    """Return the state of every model there is, of whole numbers and of floats in turn."""
    states = []
    for number, kind in enumerate(MODELS.values() if kinds is None else kinds):
        model, _ = _without_own(fit_quickly(kind, ("uint8", "float64")[number % 2]))
        states.append((kind, dict(model.__getstate__())))
    return states


def to_file(kind: type, state: State) -> bytes:
    """Write a state into a file, whether or not a model can have it.

    The only place that knows what files are made of.
    """
    shell = type(kind.__name__, (), {"__getstate__": lambda self: state})
    shell.__module__ = kind.__module__
    return skops.io.dumps(shell())


# --- mutations of a state


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where there is something in a state: keys, positions and names of fields."""
    found = [path] if path else []
    for key, part in parts(value).items():
        found += places(part, (*path, key))
    return found


def parts(value: Any) -> dict[Any, Any]:
    """Return what a value is made of."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dict(vars(value))
    return {}


def get(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = parts(value)[key]
    return value


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a value with something else in one place."""
    if not path:
        return new
    changed = put(parts(value)[path[0]], path[1:], new)
    if isinstance(value, tuple):
        return (*value[: path[0]], changed, *value[path[0] + 1 :])
    copied = copy.copy(value)
    if isinstance(copied, dict | list):
        copied[path[0]] = changed
    else:
        vars(copied)[path[0]] = changed
    return copied


def change(value: Any, rng: random.Random) -> Any:
    """Return something in the place of a value."""
    if isinstance(value, np.ndarray) and value.dtype != object and rng.random() < 0.8:
        return change_array(value, rng)
    if isinstance(value, list | tuple) and rng.random() < 0.5:
        longer = rng.choice([value[:-1], value + value, value[::-1], value * 1000, value[:0]])
        return longer if len(longer) < 20_000 else value[:-1]
    if isinstance(value, dict) and value and rng.random() < 0.5:
        key = rng.choice(list(value))
        rest = {name: entry for name, entry in value.items() if name != key}
        return rng.choice([rest, {**rest, f"{key}x": value[key]}, {**value, "extra": 1}])
    return rng.choice(NUMBERS if rng.random() < 0.6 else OTHERS)


def change_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """Return another array: of other values, another type or another shape."""
    how = rng.randrange(9)
    with np.errstate(all="ignore"):
        if how == 0:
            return array.astype(rng.choice(DTYPES))
        if how == 1:
            return rng.choice([array.ravel(), array[None], array.T, array[..., None], array[:0]])
        if how == 2:
            return np.repeat(array, rng.choice([2, 3, 1000]), axis=0) if array.ndim else array[None]
        if how == 3:
            return np.zeros(rng.choice([(1,), (10**6,), (0, 10**9), (3, 3), (1000, 1000), ()]))
        if how == 4:
            return array[::-1].copy() if array.ndim else array
        numbers = [float(n) for n in NUMBERS if abs(n) < 10**300 or n != n]
        changed = array.astype(
            rng.choice([array.dtype, np.dtype("f8")]) if how == 5 else array.dtype
        )
        if changed.size == 0 or changed.dtype.kind in "US":
            return changed.astype("U5")
        changed = np.array(changed)
        where = slice(None) if how == 6 else rng.randrange(changed.size)
        changed.reshape(-1)[where] = np.asarray(rng.choice(numbers)).astype(changed.dtype)
        return changed


def mutate(kind: type, state: State, rng: random.Random, all_states: Any) -> tuple[type, State]:
    """Change a state in one to three places, or give it to another class."""
    state = copy.deepcopy(state)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        how = rng.random()
        fitted = [p for p in places(state) if p[0].endswith("_") or p[0].startswith("_")]
        path = rng.choice(fitted if fitted and rng.random() < 0.7 else places(state))
        if how < 0.5:
            state = put(state, path, change(get(state, path), rng))
        elif how < 0.6:
            other = rng.choice(places(state))
            one, two = get(state, path), get(state, other)
            if path[: len(other)] != other and other[: len(path)] != path:
                state = put(put(state, path, two), other, one)
        elif how < 0.66:
            state.pop(rng.choice(list(state)))
        elif how < 0.74:
            state = claim_size(state, rng)
        elif how < 0.82:
            _, foreign = rng.choice(all_states)
            name = rng.choice(list(foreign))
            state[name] = copy.deepcopy(foreign[name])
        elif how < 0.9:
            name = rng.choice(["extra_", "_extra", "transform", "predict", "__class__", "fit", "x"])
            state[name] = change(None, rng)
        elif how < 0.95:
            kind = rng.choice(all_states)[0]
        else:
            arrays = [p for p in places(state) if isinstance(get(state, p), np.ndarray)]
            path = rng.choice(arrays)
            state = put(state, path, change_array(get(state, path), rng))
    return kind, state


def claim_size(state: State, rng: random.Random) -> State:
    """Say that rows are of another size, wherever the state says it: few fit into the memory."""
    height = round(2 ** rng.uniform(0, 12))
    width = rng.choice([height, max(1, round(2 ** rng.uniform(6, 19)) // height), 2**31])
    state = {**state, "input_shape_": (height, width), "n_features_in_": height}
    if "layout_" in state:
        for name, value in (("input_shape", (height, width)), ("height", height), ("width", width)):
            state = put(state, ("layout_", name), value)
    for name, array in state.items():
        if isinstance(array, np.ndarray) and array.shape[-2:] == (8, 8) and width < 2**31:
            # What was there, again and again: a grid of WaNet stays inside of the new image.
            state[name] = np.resize(array, (*array.shape[:-2], height, width))
    return state


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change a file, so that its checksums hold or not."""
    if rng.random() < 0.3:
        cut = rng.randrange(len(content))
        flipped = bytearray(content)
        flipped[cut] ^= rng.randrange(1, 256)
        return rng.choice([content[:cut], bytes(flipped), content[cut:], content + content[cut:]])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    if name.endswith(".npy"):
        before, after = rng.choice(HEADERS)
        members[name] = members[name].replace(before, after, 1)
        if rng.random() < 0.3:
            members[name] = members[name][: members[name].index(b"\n") + 1]
    else:
        at = rng.randrange(len(members[name]))
        members[name] = (
            members[name][:at] + rng.choice([b"9", b"-", b"0", b"{}"]) + members[name][at + 1 :]
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", rng.choice([0, zipfile.ZIP_DEFLATED])) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return packed.getvalue()


def hostile_file(all_states: Any, seed: int, number: int) -> tuple[str, bytes]:
    """Return the name of the class, and a file with that number."""
    rng = random.Random(f"{seed} {number}")
    kind, state = all_states[number % len(all_states)]
    if rng.random() < 0.15:
        return kind.__name__, mutate_bytes(to_file(kind, state), rng)
    for _ in range(20):
        changed, mutated = mutate(kind, state, rng, all_states)
        try:
            return changed.__name__, to_file(changed, mutated)
        except (OverflowError, TypeError, ValueError, AttributeError, RecursionError):
            continue  # what no file can hold
    return kind.__name__, to_file(kind, state)


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


def in_child(path: Path, task: Callable[[Path], None]) -> str:
    """Do something in a forked process with little memory, and say what came of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, outcome_of(path, task).encode()[:2000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"OFFENCE: ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return said or f"OFFENCE: exit status {status}"


def outcome_of(path: Path, task: Callable[[Path], None]) -> str:
    signal.alarm(MOST_SECONDS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MOST_BYTES
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
        path = Path(folder) / "hostile.skops"
        for kind, state in states:  # what is imported late counts for nobody
            path.write_bytes(to_file(kind, state))
            load_and_use(path)
        gc.collect()
        gc.freeze()  # a child that collects would copy all that its parent has
        for number in numbers:
            name, content = hostile_file(states, seed, number)
            path.write_bytes(content)
            tell(number, name, in_child(path, load_and_use))


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
    from _common import provenance

    origin = provenance()
    states = good_states()
    if arguments.only is not None:
        name, content = hostile_file(states, arguments.seed, arguments.only)
        path = Path(tempfile.mkdtemp()) / "hostile.skops"
        path.write_bytes(content)
        print(name, path, flush=True)
        load_and_use(path)
        return
    done: dict[int, tuple[str, str]] = {}
    if arguments.progress is not None and arguments.progress.exists():
        lines = arguments.progress.read_text().splitlines()
        done = {row[0]: (row[1], row[2]) for row in map(json.loads, lines)}
    log = None if arguments.progress is None else arguments.progress.open("a")

    def tell(number: int, name: str, outcome: str) -> None:
        done[number] = (name, outcome)
        if log is not None:
            print(json.dumps([number, name, outcome]), file=log, flush=True)
        if outcome.startswith("OFFENCE"):
            print(number, name, outcome, file=sys.stderr, flush=True)

    started = time.perf_counter()
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
        "seconds": round(time.perf_counter() - started),
        **origin,
    }
    print(json.dumps(row))
    if arguments.out is not None:
        with arguments.out.open("a") as file:
            print(json.dumps(row), file=file)
    sys.exit("OFFENCE" in outcomes)


if __name__ == "__main__":
    main()
