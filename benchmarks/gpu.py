"""A GPU in twelve minutes: all that is worth measuring on one, in order of worth.

    python benchmarks/gpu.py --minutes 12
    python benchmarks/gpu.py --table
    python benchmarks/gpu.py --device cpu --tiny --out /tmp/tiny.jsonl

1. Correctness. The CPU and the GPU train a network for an epoch, from the same weights on the same
   batches, and their logits are compared: at a low rate in float32 without TF32, which should agree
   within 1e-4, at a usual rate, and in float64. Rounding grows in training: `reference` is how far
   the CPU comes from itself when the rows of each batch are turned round. Then the search, in
   float32 and in the bfloat16 that fits use on CUDA: the same list?
2. Images a second in training, compiled and not, and in prediction: medians of three.
3. ABL on all of CIFAR-10. Seconds are of the fit, the peak of the GPU's memory of the whole cell.
4. Tables of undefended training and ABL, at 10 % (clean labels: 5 %), then at 1 %.

Each measurement is a line of JSON as soon as it is finished. A second run takes up where the first
one was stopped, and tries those that failed again, last. None begins that would not end in time, as
far as an earlier one of its kind tells. The package must be installed, for it asks for its version;
a machine without git is told the commit: ANTIBACKDOOR_COMMIT=1e658fa.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import image_sets
import numpy as np
import torch
from _common import PROVENANCE, append_row, provenance, resume_rows
from search_trials import small

from antibackdoor import PoisonSearch, UndefendedClassifier
from antibackdoor.backbones import build_network
from antibackdoor.benchmark import Cell, RowFormat, read_rows, run_cell
from antibackdoor.training import CrossEntropy, Recipe, Samples, Training, compute_logits
from antibackdoor.utils import resolve_device, resolve_layout

RESULTS = Path(__file__).parent / "results" / "gpu.jsonl"
ROWS = RowFormat(
    key=itemgetter("measurement", "device", "tiny"),
    columns=(
        *("measurement", "device", "tiny", "found", "error", "warnings", "wall_seconds", "gpu"),
        *PROVENANCE,
    ),
    supersedes=True,  # what failed is tried again
)

#: Attacks, with their share of all rows and what a cell calls them.
ATTACKS = {
    **{name: (0.1, name) for name in ("badnets", "blend", "wanet")},
    "sig": (0.05, "sig"),
    "adaptive-blend": (0.1, "adaptive-blend"),
    "dot-all-to-all": (0.1, "image_sets.Dot(label_map='all_to_all')"),
    "cl": (0.05, "cl"),
    "dynamic": (0.1, "dynamic"),
}
LOW_RATE = 0.01
_OF_A_CELL = ("ca", "asr", "asr_without_trigger", "tpr", "fpr", "p_value", "seconds")

#: torch lets convolutions round to TF32 unless it is told not to, and the package says nothing.
WITHOUT_TF32 = partial(torch.backends.cudnn.flags, enabled=True, allow_tf32=False)

Found = dict[str, Any]
Work = Callable[[], Found]


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    dataset: str = "cifar10"
    n_train: int | None = None
    schedule: float = 1.0
    attacks: tuple[str, ...] = tuple(ATTACKS)
    searched: str = "half-cifar10"
    n_searched: int = 5_000
    search_epochs: int = 20
    n_epoch: int = 2_560
    n_speed: int = 25_600
    side: int = 32
    backbones: tuple[str, ...] = ("wrn-16-1", "preact-resnet18")


TINY = Size(
    *("digits", 300, 0.05, ("badnets", "dot-all-to-all", "cl", "dynamic")),
    *("digits", 600, 1, 128, 256, 16, ("small-cnn",)),
)


class GivenBatches:
    """The same batches on every device: each has a generator of its own."""

    def __init__(self, batches: torch.Tensor) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, generator: torch.Generator) -> Iterator[torch.Tensor]:
        return iter(self._batches)


def noise(n: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images and labels: what they show changes neither rounding nor speed."""
    images = np.random.RandomState(0).randint(0, 256, (n, side, side, 3), dtype=np.uint8)
    return images, np.arange(n) % 10


def train(batches: torch.Tensor, device: str, dtype: torch.dtype, rate: float) -> np.ndarray:
    """Train a network for an epoch, always from the same weights, and return its logits."""
    X, y = noise(batches.numel(), 16)
    on = torch.device(device)
    samples = Samples(X, resolve_layout(X.shape[1:], None, "channels_last"), on, dtype)
    torch.manual_seed(0)
    half = torch.full((3,), 0.5)
    network = build_network("wrn-16-1", (3, 16, 16), 10, mean=half, scale=half / 2, dtype=dtype)
    Training(
        network.to(on),
        samples,
        torch.as_tensor(y, device=on),
        batches=GivenBatches(batches.to(on)),
        epochs=1,
        objective=CrossEntropy(),
        recipe=Recipe(learning_rate=rate),
        generator=torch.Generator(on),
    ).run_epoch()
    return compute_logits(network, samples).double().cpu().numpy()


def epoch(size: Size, device: str) -> Found:
    """Compare an epoch on the CPU with one on the device, by the largest difference of a logit."""
    batches = torch.randperm(size.n_epoch, generator=torch.Generator().manual_seed(0)).view(-1, 64)
    found: Found = {}
    for dtype, rate in ((torch.float32, 1e-4), (torch.float32, 0.01), (torch.float64, 0.01)):
        cpu = train(batches, "cpu", dtype, rate)
        with WITHOUT_TF32():
            others = {"difference": train(batches, device, dtype, rate)}
        others["reference"] = train(batches.flip(1), "cpu", dtype, rate)
        found[f"{dtype} at {rate:g}"] = {
            name: float(np.abs(logits - cpu).max() / np.abs(cpu).max())
            for name, logits in others.items()
        }
    return found | {"within 1e-4": found["torch.float32 at 0.0001"]["difference"] <= 1e-4}


def search(size: Size, device: str, data_root: str) -> Found:
    """Compare the lists of the search in float32 and bfloat16; a CPU has float32 alone."""
    X, y = image_sets.load(size.searched, size.n_searched, 0, data_root)
    X, y, poison = image_sets.poisoned(X, y, "badnets", 0.05, 0)
    settings = {"backbone": small, "layout": "channels_last", "compile": False, "device": device}
    found, lists = {}, []
    for name, mixes in (("float32", False), ("bfloat16", True)):
        # A fit mixes where the GPU knows bfloat16: there is no parameter for it.
        with WITHOUT_TF32(), patch("torch.cuda.is_bf16_supported", return_value=mixes):
            fitted = PoisonSearch(epochs=size.search_epochs, random_state=0, **settings).fit(X, y)
        flagged = fitted.isolate_mask_
        found[name] = {
            "n_flagged": int(flagged.sum()),
            "tpr": float(flagged[poison].mean()),
            "fpr": float(flagged[~poison].mean()),
            "p_value": fitted.isolate_pvalue_,
        }
        lists.append(flagged)
    return found | {"n_other": int((lists[0] != lists[1]).sum())}


def speed(backbone: str, size: Size, device: str) -> Found:
    """Count the images a second of training and prediction."""
    X, y = noise(size.n_speed, size.side)
    found = {}
    for name, compiled in (("plain", False), ("compiled", True)):
        settings = {"backbone": backbone, "compile": compiled, "device": device}
        clf = UndefendedClassifier(epochs=4, random_state=0, **settings).fit(X, y)
        first, *others = (row["seconds"] for row in clf.history_)
        found[name] = {"rate": len(y) / statistics.median(others), "first_epoch_seconds": first}
    times = [time.perf_counter()]
    for _ in range(4):
        clf.predict(X)
        times.append(time.perf_counter())
    rate = len(y) / float(np.median(np.diff(times)[1:]))  # the first one warms up
    return found | {"prediction": {"rate": rate}}


def defend(cell: Cell, device: str, data_root: str, memory: str) -> Found:
    """Measure a cell of a table."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    row = run_cell(cell, data_root=data_root, memory=memory, device=device, threads=None)
    if row["error"] is not None:
        raise RuntimeError(row["traceback"])
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    return {name: row.get(name) for name in _OF_A_CELL} | {"peak_gib": peak}


def measurements(size: Size, device: str, data_root: str, memory: str) -> dict[str, Work]:
    """Return what is to be measured, by its name, in order of worth."""
    works: dict[str, Work] = {
        "correctness/epoch": partial(epoch, size, device),
        "correctness/search": partial(search, size, device, data_root),
    }
    works |= {f"speed/{name}": partial(speed, name, size, device) for name in size.backbones}
    # The first of the table is ABL on BadNets: what a whole fit takes.
    poison = [(name, *ATTACKS[name]) for name in size.attacks]
    rare = [(name, LOW_RATE, attack) for name, _, attack in poison]
    for (name, rate, attack), defense in product(
        [poison[0], ("clean", 0.0, "none"), *poison[1:], *rare], ("abl", "undefended")
    ):
        cell = Cell(
            *(size.dataset, attack, rate, defense), n_train=size.n_train, schedule=size.schedule
        )
        label = f"{defense}/{name}/{rate:g}/{size.n_train or 'all'}"
        works[label] = partial(defend, cell, device, data_root, memory)
    return works


def measure(work: Work) -> Found:
    """Do the work, and return what it found, or what went wrong."""
    started, found, error = time.perf_counter(), None, None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            found = work()
        except Exception as raised:
            # The minutes of a GPU are few: one that fails must not cost the others theirs.
            error = "".join(traceback.format_exception(raised))
    gc.collect()  # what a failed one holds on the GPU is in the way of the next
    return {
        "found": found,
        "error": error,
        "warnings": sorted({str(one.message) for one in told}),
        "wall_seconds": round(time.perf_counter() - started, 1),
    }


def main(words: list[str] | None = None) -> None:
    started = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rows", type=int, help="training images of the tables; all by default")
    parser.add_argument("--tiny", action="store_true", help="next to nothing of everything")
    parser.add_argument("--table", action="store_true", help="print what is there and stop")
    asked = parser.parse_args(words)
    if asked.table:
        for row in read_rows(asked.out, ROWS):
            print(f"{row['measurement']} ({row['gpu']}): {row['error'] or row['found']}")
        return
    device = resolve_device(asked.device).type
    common = {"device": device, "tiny": asked.tiny, **provenance()}
    common["gpu"] = torch.cuda.get_device_name() if device == "cuda" else None
    rows = {ROWS.key(row): row for row in resume_rows(asked.out, ROWS)}
    # Of this device and size.
    rows = {name: row for (name, *key), row in rows.items() if key == [device, asked.tiny]}
    size = TINY if asked.tiny else Size(n_train=asked.rows)
    with tempfile.TemporaryDirectory() as memory:
        works = measurements(size, device, asked.data_root, memory)
        failed = {name for name, row in rows.items() if row["error"] is not None}
        missing = [name for name in works if name not in rows]
        for name in [*missing, *(name for name in works if name in failed)]:
            kind = name.split("/")[0]
            alike = (row["wall_seconds"] for other, row in rows.items() if other.startswith(kind))
            if time.perf_counter() - started + max(alike, default=0) > 60 * asked.minutes:
                print(f"{name}: left out, the time is over", flush=True)
                continue
            rows[name] = {"measurement": name, **measure(works[name]), **common}
            append_row(asked.out, rows[name])
            print(f"{name}: {rows[name]['error'] or rows[name]['found']}", flush=True)


if __name__ == "__main__":
    main()
