"""The search on sets and triggers of every kind: what is found, what is flagged wrongly.

    python benchmarks/search_trials.py --cells quick --shard 0/2 &
    python benchmarks/search_trials.py --cells quick --shard 1/2 &
    python benchmarks/fill_pages.py

A cell is a set, an attack, its rate and a seed; `image_sets.py` has the sets, `triggers.py` the
triggers that no attack of the package has. ``quick``: images of half the size and a small network;
``others``: the same, sets and triggers that the search was not developed on; ``full``: 5,000
images and `wrn-16-1`; ``attacks``: the same, CIFAR-10 and every attack of the package at its main
rate; ``clean``: sets without poison; ``kept`` and ``kept-clean``: a set and triggers that were
kept back from whoever developed the search; ``crossed``: the sets of ``quick`` with the triggers
of ``others``. Each finished cell is a line of JSON in benchmarks/results/search-trials.jsonl; a
second run takes up where the first one was stopped.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any

# Before torch is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import image_sets
import numpy as np
from _common import PROVENANCE, append_row, provenance, resume_rows
from torch import nn

from antibackdoor import PoisonSearch, UndefendedClassifier
from antibackdoor.backbones import Backbone
from antibackdoor.benchmark import RowFormat

RESULTS = Path(__file__).parent / "results" / "search-trials.jsonl"
N_ROWS = 5_000
ROWS = RowFormat(
    key=itemgetter("set", "attack", "poison_rate", "seed"),
    columns=(
        *("set", "attack", "poison_rate", "seed", "n_rows", "n_poisoned", "n_flagged", "tpr"),
        *("fpr", "p_value", "classes", "signs", "epochs", "seconds", *PROVENANCE),
    ),
    optional=("asr",),
    supersedes=True,  # a cell is measured again after a change of the search
)

# Attacks of the package: of wrong labels, and of rows that keep theirs.
_WRONG_LABEL = ("badnets", "blend", "trojan", "ssba", "dynamic", "dfst", "lba", "lf", "wanet")
_WRONG_LABEL += ("cba", "adaptive-cbd", "adaptive-blend")
_CLEAN_LABEL = ("sig", "cl", "fc")

_MAIN_RATES = [*((name, 0.1) for name in _WRONG_LABEL), *((name, 0.05) for name in _CLEAN_LABEL)]

_QUICK = [
    *[("pattern", 0.05), ("displaced", 0.1), ("none", 0.0), ("ramp", 0.05), ("dot", 0.01)],
    *[("dot-all-to-all", 0.1), ("badnets", 0.05), ("blend", 0.05), ("sig", 0.05), ("wanet", 0.1)],
    *[("adaptive-blend", 0.1), ("lf", 0.1), ("dynamic", 0.1), ("cl", 0.05), ("pattern", 0.01)],
]

_OTHER_TRIGGERS = [
    ("none", 0.0),
    *[(name, 0.05) for name in ("checker", "frame", "tinted", "gamma", "inverted", "noisy")],
    *[(name, 0.1) for name in ("blurred", "rotated", "pixelated")],
    *[(name, 0.02) for name in ("line", "corners")],
    *[("pattern", 0.05), ("ramp", 0.05), ("displaced", 0.1), ("dot", 0.01)],
]

_KEPT_TRIGGERS = [
    *[("posterised", 0.1), ("shadow", 0.05), ("hue", 0.05), ("mirrored", 0.1)],
    *[("checker", 0.05), ("blurred", 0.1), ("rotated", 0.1), ("line", 0.02)],
    *[("displaced", 0.1), ("pattern", 0.05)],
]

_CROSSED_TRIGGERS = [
    *[(name, 0.05) for name in ("checker", "frame", "inverted", "noisy")],
    *[(name, 0.1) for name in ("blurred", "pixelated", "rotated")],
    ("line", 0.02),
]

_DEVELOPED_ON = ("fashion", "letters", "cifar10")
_HALF = tuple("half-" + of for of in _DEVELOPED_ON)
_DRAWN = ("half-numbers", "half-textures", "half-shapes")
_FOURS = ("digits-0123", "digits-1479", "digits-3568")

# Attacks with their rates, sets, and seeds: every one with every one.
TABLES = {
    "quick": (_QUICK, _HALF, range(1)),
    "others": (_OTHER_TRIGGERS, _DRAWN, range(1)),
    "full": (_QUICK, _DEVELOPED_ON, range(1)),
    "attacks": (_MAIN_RATES, ("cifar10",), range(1)),
    "clean": ([("none", 0.0)], (*_HALF, *_DRAWN, "digits", *_FOURS), range(10)),
    "kept": (_KEPT_TRIGGERS, ("half-scenes",), range(1)),
    "kept-clean": ([("none", 0.0)], ("half-scenes",), range(3)),
    "crossed": (_CROSSED_TRIGGERS, _HALF, range(1)),
}

Cell = dict[str, Any]


def cells(name: str) -> Iterator[Cell]:
    """Give the cells of one of the tables."""
    attacks, sets, seeds = TABLES[name]
    for seed, (attack, rate), of in product(seeds, attacks, sets):
        yield {"set": of, "attack": attack, "poison_rate": rate, "seed": seed}


def run(cell: Cell, data_root: str) -> Cell:
    """Poison, search and measure one cell."""
    origin = provenance()
    backbone = small if cell["set"].startswith("half-") else "auto"
    X, y = image_sets.load(cell["set"], N_ROWS, cell["seed"], data_root)
    X, y, poison = image_sets.poisoned(X, y, cell["attack"], cell["poison_rate"], cell["seed"])
    search = PoisonSearch(backbone=backbone, layout="channels_last", random_state=cell["seed"])
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of sets that cannot be searched
        search.fit(X, y)
    seconds = round(time.perf_counter() - started)
    flagged = search.isolate_mask_
    return {
        **cell,
        "n_rows": len(y),
        "n_poisoned": int(poison.sum()),
        "n_flagged": int(flagged.sum()),
        "tpr": round(float(flagged[poison].mean()), 4) if poison.any() else None,
        "fpr": round(float(flagged[~poison].mean()), 5),
        "p_value": search.isolate_pvalue_,
        "classes": search.isolate_classes_.tolist(),
        "signs": {name: np.round(v, 3).tolist() for name, v in search.isolate_signs_.items()},
        "epochs": Counter(epoch["phase"] for epoch in search.history_),
        "asr": _plain_asr(X, y, poison, cell, backbone),
        "seconds": seconds,
    } | origin


def _plain_asr(
    X: np.ndarray, y: np.ndarray, poison: np.ndarray, cell: Cell, backbone: Backbone
) -> float | None:
    """Return the share of clean rows that get the label of a trigger after plain training.

    None for the attacks of the package: the tables tell their rate.
    """
    if cell["attack"] not in image_sets.TRIGGERS:
        return None
    plain = UndefendedClassifier(
        epochs=20, backbone=backbone, layout="channels_last", random_state=cell["seed"]
    ).fit(X, y)
    others = X[~poison & (y != y[poison][0])][:1000]
    told = plain.predict(image_sets.TRIGGERS[cell["attack"]](others))
    return round(float((told == y[poison][0]).mean()), 4)


def small(shape: tuple[int, ...], n_classes: int) -> nn.Sequential:
    """Four convolutions: enough for images of sixteen pixels, and quick."""
    layers: list[nn.Module] = []
    for n_in, n_out, stride in ((shape[0], 16, 2), (16, 32, 1), (32, 64, 2), (64, 64, 1)):
        layers += [nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out)]
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, n_classes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--cells", choices=TABLES, default="quick")
    parser.add_argument("--shard", default="0/1", help="which share of the cells, as 0/2")
    parser.add_argument("--only", nargs="*", help="such cells alone, as fashion/pattern/0.05")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    number, of = map(int, arguments.shard.split("/"))
    wanted = list(cells(arguments.cells))[number::of]
    if arguments.only:
        named = [f"{c['set']}/{c['attack']}/{c['poison_rate']:g}" for c in wanted]
        wanted = [wanted[named.index(name)] for name in arguments.only]
    for cell in wanted:
        if ROWS.key(cell) in map(ROWS.key, resume_rows(arguments.out, ROWS)):
            continue
        row = run(cell, arguments.data_root)
        append_row(arguments.out, row)
        shown = ("set", "attack", "poison_rate", "tpr", "fpr", "p_value", "asr")
        print({name: row[name] for name in shown}, flush=True)


if __name__ == "__main__":
    main()
