"""What each part of the search is worth: the same networks, with one part switched off.

    python benchmarks/search_ablation.py --only half-numbers/blurred/0.1 half-cifar10/none/0
    python benchmarks/search_ablation.py --table

Without --only: the cells ``quick`` and ``others`` of search_trials.py. The networks of a cell are
trained once; what is switched off comes after them. A row has the p-value of the poisoned class,
the smallest of a natural one, and the rows that the completion would begin from.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

import image_sets
import numpy as np
import search_trials
from _common import PROVENANCE, append_row, provenance, resume_rows

from antibackdoor import PoisonSearch
from antibackdoor.benchmark import RowFormat, read_rows
from antibackdoor.detection import _evidence, _search, _suspects

RESULTS = Path(__file__).parent / "results" / "search-ablation.jsonl"
ROWS = RowFormat(
    key=itemgetter("set", "attack", "poison_rate", "seed", "without"),
    columns=(
        *("set", "attack", "poison_rate", "seed", "without", "p_poisoned", "p_natural"),
        *("n_suspect", "precision", "recall", *PROVENANCE),
    ),
    supersedes=True,
)
FALSE_ALARM_RATE = 0.05

Stages = tuple[Any, ...]


class _NoSign:
    """A p-value that says nothing: given out as 1, whatever is put in."""

    def __get__(self, record: Any, kind: type | None = None) -> float:
        return 1.0

    def __set__(self, record: Any, value: float) -> None:
        pass


def _no_sign(name: str) -> Any:
    return patch.object(_evidence.ClassEvidence, name, _NoSign(), create=True)


def _by_features(parts: Any, *_: Any) -> Any:
    """Give the two parts by features as the only candidates."""
    return [parts.probabilities, 1 - parts.probabilities]


def _than_rest_alone(prediction: Any, rows: np.ndarray, rest: np.ndarray) -> float:
    """Return how foreign a part is to the rest, whatever explains it better."""
    return float(prediction.foreignness(rows, prediction.shares(rest)).mean())


def _evidence_with(**changed: Callable[[_suspects.Candidate], float]) -> Any:
    """Let the evidence of a part be that of a part with other measurements."""
    evidence = _suspects.Candidate.evidence.fget
    assert evidence is not None

    def of_changed(one: _suspects.Candidate) -> float:
        return float(evidence(replace(one, **{name: of(one) for name, of in changed.items()})))

    return patch.object(_suspects.Candidate, "evidence", property(of_changed))


#: What is switched off, and how.
PARTS = {
    "nothing": nullcontext,
    "evidence": lambda: _no_sign("foreign_p"),
    "foreignness": lambda: _evidence_with(foreignness=lambda one: -np.inf),
    "contrast": lambda: _evidence_with(rest_diversity=lambda one: one.diversity),
    "errors of few rows": lambda: _evidence_with(n_recognised=lambda one: 10**12),
    "shares of its own": lambda: patch.object(_suspects, "part_foreignness", _than_rest_alone),
    "transplant": lambda: _no_sign("transplant_p"),
    "signs together": lambda: _no_sign("together_p"),
    "candidates": lambda: patch.object(_suspects, "_candidates", _by_features),
    "rows that join": lambda: patch.object(
        _suspects, "_widen", lambda parts, *_: parts.probabilities
    ),
}


# Not frozen: a traceback is set on its way up.
@dataclass
class _Stopped(BaseException):
    """The networks that ask have been trained."""

    stages: Stages


def train(cell: dict[str, Any], data_root: str) -> tuple[Stages, np.ndarray]:
    """Return the arguments of the stage after the networks, and the mask of the poison."""
    X, y = image_sets.load(cell["set"], search_trials.N_ROWS, cell["seed"], data_root)
    X, y, poison = image_sets.poisoned(X, y, cell["attack"], cell["poison_rate"], cell["seed"])

    def stop(*stages: Any) -> None:
        raise _Stopped(stages)

    search = PoisonSearch(
        backbone=search_trials.small, layout="channels_last", random_state=cell["seed"]
    )
    with patch.object(_search, "find_shared_part", stop):
        try:
            search.fit(X, y)
        except _Stopped as stopped:
            return stopped.stages, poison
    raise ValueError(f"{cell['set']} could not be searched.")


def weigh(stages: Stages, poison: np.ndarray) -> dict[str, Any]:
    """Return what the search concludes from its networks, as columns of a row."""
    samples, labels, fitted, predictions, _, seed = stages
    parts = _search.split_classes(fitted, labels, seed)
    signs = [
        _search._measure(one, fitted, predictions[one.label], samples, labels, seed)
        for one in parts
    ]
    n_tests = _search._n_tests(labels)
    n_known = min(len(one.known) for one in predictions.values())
    evidence = _search.weigh(signs, n_known, FALSE_ALARM_RATE / n_tests)
    target = int(np.bincount(labels[poison]).argmax()) if poison.any() else None
    natural = [one.p_value for one in evidence if one.label != target]
    row = {"p_poisoned": None, "n_suspect": None, "precision": None, "recall": None}
    for one in evidence:
        if one.label == target:
            suspect = one.rows[one.probabilities > 0.5]
            row = {
                "p_poisoned": min(1.0, one.p_value * n_tests),
                "n_suspect": len(suspect),
                "precision": round(float(poison[suspect].mean()), 3) if len(suspect) else None,
                "recall": round(float(poison[suspect].sum() / poison.sum()), 3),
            }
    return {**row, "p_natural": min(1.0, min(natural) * n_tests)}


def print_table(path: Path) -> None:
    """Print as Markdown what is found without each part."""
    rows = read_rows(path, ROWS)
    print(
        "| without | poisoned sets found | sets with a natural class flagged | precision | recall |"
    )
    print("|" + "---|" * 5)
    for part in PARTS:
        of = [row for row in rows if row["without"] == part]
        poisoned = [row for row in of if row["p_poisoned"] is not None]
        found = [row for row in poisoned if row["p_poisoned"] < FALSE_ALARM_RATE]
        alarms = sum(row["p_natural"] < FALSE_ALARM_RATE for row in of)
        means = [
            100 * np.mean([row[name] or 0.0 for row in found]) for name in ("precision", "recall")
        ]
        print(
            f"| {part} | {len(found)} of {len(poisoned)} | {alarms} of {len(of)} "
            f"| {means[0]:.0f} | {means[1]:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--only", nargs="*", help="such cells alone, as half-numbers/line/0.02")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        print_table(arguments.out)
        return
    cells = [*search_trials.cells("quick"), *search_trials.cells("others")]
    if arguments.only:
        named = {f"{c['set']}/{c['attack']}/{c['poison_rate']:g}": c for c in cells}
        cells = [named[name] for name in arguments.only]
    for cell in cells:
        done = {ROWS.key(row) for row in resume_rows(arguments.out, ROWS)}
        if all(ROWS.key(cell | {"without": part}) in done for part in PARTS):
            continue
        origin = provenance()
        stages, poison = train(cell, arguments.data_root)
        for part, switched_off in PARTS.items():
            with switched_off():
                row = {**cell, "without": part, **weigh(stages, poison), **origin}
            append_row(arguments.out, row)
        print(cell, flush=True)


if __name__ == "__main__":
    main()
