"""What the search for poison finds in clean data: the base of its false alarm rate.

    python benchmarks/calibration.py digits
    python benchmarks/calibration.py synthetic
    python benchmarks/calibration.py cifar10 --data-root ../shared/data --seeds 4
    python benchmarks/calibration.py --table

Each seed draws other rows: a split of the digits, 2,000 drawn shapes of eight classes in 16 x 16
pixels, or another 5,000 images of CIFAR-10 (`wrn-16-1`). A finished seed is a line of JSON in
benchmarks/results/calibration.jsonl; a second run takes up where the first one was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

# Before torch is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _common import provenance
from sklearn.model_selection import train_test_split
from torchvision.datasets import CIFAR10

from antibackdoor import PoisonSearch
from antibackdoor.datasets import load_digits_images

RESULTS = Path(__file__).parent / "results" / "calibration.jsonl"
SETS = ("digits", "synthetic", "cifar10")

#: What a sign is called in rows of before it had its name.
_OLDER = {"low_margin": "misfits"}


def load(name: str, seed: int, data_root: str) -> tuple[np.ndarray, np.ndarray]:
    """Return clean training rows."""
    if name == "digits":
        X, y = load_digits_images()
        X, _, y, _ = train_test_split(X, y, stratify=y, random_state=seed)
        return X, y
    if name == "synthetic":
        return draw_shapes(2_000, seed)
    everything = CIFAR10(data_root, train=True)
    # The first 5,000 are those of the other benchmarks.
    rows = slice(5_000 * (seed + 1), 5_000 * (seed + 2))
    return everything.data[rows], np.asarray(everything.targets)[rows]


def draw_shapes(n_images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw discs, rings, squares, frames, crosses, saltires and bars, light or dark, in noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(8, size=n_images)
    rows, columns = np.mgrid[:16, :16][:, None] - rng.uniform(5, 11, (2, n_images, 1, 1))
    radius = rng.uniform(3, 6, (n_images, 1, 1))
    across, reach = np.maximum(abs(rows), abs(columns)), np.hypot(rows, columns)
    shapes = np.stack(
        [
            reach < radius,
            abs(reach - radius) < 1,
            across < radius,
            abs(across - radius) < 1,
            (np.minimum(abs(rows), abs(columns)) < 1) & (across < radius),
            (abs(abs(rows) - abs(columns)) < 1) & (across < radius),
            (abs(rows) % 3 < 1.5) & (across < radius),
            (abs(columns) % 3 < 1.5) & (across < radius),
        ]
    )
    drawn = shapes[y, np.arange(n_images)]
    sign = rng.choice([-1, 1], (n_images, 1, 1))
    X = 128 + sign * rng.uniform(50, 100, (n_images, 1, 1)) * drawn
    return np.clip(X + rng.normal(0, 20, X.shape), 0, 255).astype(np.uint8), y


def run(name: str, seed: int, data_root: str) -> dict[str, Any]:
    """Search the rows of one seed."""
    origin = provenance()
    X, y = load(name, seed, data_root)
    search = PoisonSearch(random_state=seed).fit(X, y)
    return {
        "set": name,
        "seed": seed,
        "p_value": search.isolate_pvalue_,
        "n_isolated": len(search.isolate_),
        **{sign: values.tolist() for sign, values in search.isolate_signs_.items()},
        **origin,
    }


def print_table() -> None:
    """Print, for each set, how often it was flagged and how strong the signs were."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    print("| set | seeds | flagged | smallest p | transplant: mean, 99 %, largest ", end="")
    print("| diversity: held out, mean and deviation, largest | low margin: the same |")
    print("|" + "---|" * 7)
    for name in SETS:
        of_set = [row for row in rows if row["set"] == name]
        if not of_set:
            continue
        transplants = np.concatenate([row["transplant"] for row in of_set])
        transplants = np.maximum(transplants[~np.isnan(transplants)], 0)
        print(
            f"| {name} | {len(of_set)} | {sum(row['n_isolated'] > 0 for row in of_set)} "
            f"| {min(row['p_value'] for row in of_set):.2g} "
            f"| {transplants.mean():.3f}, {np.quantile(transplants, 0.99):.2f}, "
            f"{transplants.max():.2f} "
            f"| {_of_held_out(of_set, 'diversity')} | {_of_held_out(of_set, 'low_margin')} |"
        )


def _of_held_out(rows: list[dict[str, Any]], sign: str) -> str:
    values = np.concatenate([row.get(sign, row.get(_OLDER.get(sign))) for row in rows])
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return "0"
    return f"{len(values)}, {values.mean():.2f}, {values.std():.2f}, {values.max():.2f}"


def main() -> None:
    """Run the seeds that are not finished."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("set", choices=SETS, nargs="?")
    parser.add_argument("--data-root", default="data", help="holds cifar-10-batches-py/")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    arguments = parser.parse_args()
    if arguments.table:
        print_table()
        return
    if arguments.set is None:
        parser.error(f"name a set: one of {', '.join(SETS)}")
    for seed in range(arguments.seeds):
        finished = RESULTS.read_text().splitlines() if RESULTS.exists() else []
        if any(
            (row["set"], row["seed"]) == (arguments.set, seed) for row in map(json.loads, finished)
        ):
            continue
        row = run(arguments.set, seed, arguments.data_root)
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({name: row[name] for name in ("set", "seed", "p_value", "n_isolated")}, flush=True)


if __name__ == "__main__":
    main()
