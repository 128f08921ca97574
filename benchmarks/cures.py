"""What to do with rows that were flagged, when some were missed and some were flagged in error.

    python benchmarks/cures.py
    python benchmarks/cures.py --table

Digits, `small-cnn`, 10 % poison, 20 epochs of the network that is kept; `mixed ascent` has stage
one before and 20 of unlearning and recovery behind them. Nothing is searched: all cures are handed
the same rows, 2 % of the poison not among them, and with them none or 15 natural rows of the target
class. Each fit is a line of JSON in benchmarks/results/cures.jsonl; a second run takes up where
the first one was stopped.
"""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

# Before torch is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from _common import PROVENANCE, append_row, provenance, resume_rows
from sklearn.model_selection import train_test_split
from torch.nn import functional as F

from antibackdoor import ABLClassifier, Mixed, Retrain, make_poisoned
from antibackdoor.attacks import make_attack
from antibackdoor.benchmark import RowFormat, read_rows
from antibackdoor.datasets import load_digits_images
from antibackdoor.defenses import Cure, Cured
from antibackdoor.detection import Detection
from antibackdoor.metrics import clean_accuracy
from antibackdoor.training import (
    CrossEntropy,
    HeldLoss,
    NegativeLoss,
    Objective,
    Run,
    ShuffledRows,
    compute_logits,
    log_odds,
    sample_losses,
)

RESULTS = Path(__file__).parent / "results" / "cures.jsonl"
TARGET = 0
ATTACKS = ("badnets", "blend", "lf")
N_WRONG = (0, 15)
SEEDS = (0, 1, 2)
_EPOCHS = 20
_FIGURES = ("ca", "asr", "r_acc", "target_recall", "target_recall_triggered")
_CELL = ("attack", "n_wrong", "cure", "seed")
ROWS = RowFormat(key=itemgetter(*_CELL), columns=(*_CELL, *_FIGURES, *PROVENANCE))


class Endless:
    """Negative learning without an end: -log(1 - p_y)."""

    def __init__(self, complementary: torch.Tensor) -> None:
        self._complementary = complementary

    def __call__(self, network: Any, inputs: Any, labels: Any, index: Any) -> Any:
        logits = network(inputs)
        negative = F.softplus(log_odds(logits, labels))
        losses = torch.where(self._complementary[index], negative, sample_losses(logits, labels))
        return losses.mean(), logits


class Relabelled:
    """Cross-entropy to a distribution over the classes for each row."""

    def __init__(self, wanted: torch.Tensor) -> None:
        self._wanted = wanted

    def __call__(self, network: Any, inputs: Any, labels: Any, index: Any) -> Any:
        logits = network(inputs)
        return -(self._wanted[index] * logits.log_softmax(1)).sum(1).mean(), logits


class MixedAfterStageOne(Mixed):
    """Goes on from what stage one of ABL has learned, though the flagged rows are handed to it."""

    n_phases = 4

    def _train(self, run: Run, detection: Detection, epochs: int) -> Cured:
        network = run.new_network()
        held = HeldLoss(0.5, "batch")
        recipe = replace(run.recipe, schedule="constant", augmentation=None)
        run.phase("isolate", network, held, epochs=_EPOCHS, recipe=recipe)
        return super()._train(run, replace(detection, network=network), epochs)


class OnAllRows(Cure):
    """Trains on all rows, on the flagged ones by an objective of their own."""

    n_phases = 2

    def __init__(self, *, kind: str = "to chance") -> None:
        self.kind = kind

    def _train(self, run: Run, detection: Detection, epochs: int) -> Cured:
        objective = self._objective(run, detection.isolation.mask)
        network = run.new_network()
        run.phase("finetune", network, objective, epochs=epochs)
        return Cured(network, detection.isolation, unlearned=True)

    def _objective(self, run: Run, mask: np.ndarray) -> Objective:
        flagged = torch.as_tensor(mask)
        match self.kind:
            case "to chance":
                return NegativeLoss(flagged)
            case "without an end":
                return Endless(flagged)
            case _:
                return Relabelled(_opinions(run, mask))


def _opinions(run: Run, mask: np.ndarray) -> torch.Tensor:
    """Of the flagged rows what a network says that does not know their classes."""
    labels = run.labels.numpy()
    unknown = np.unique(labels[mask])
    network = run.new_network()
    known = ShuffledRows(run.rows(~np.isin(labels, unknown)), run.batch_size)
    run.phase("probe", network, CrossEntropy(), epochs=10, batches=known)
    logits = compute_logits(network, run.samples)
    logits[:, unknown] = -torch.inf
    flagged = torch.as_tensor(mask)[:, None]
    return torch.where(flagged, logits.softmax(1), F.one_hot(run.labels, logits.shape[1]))


CURES: dict[str, Cure] = {
    "left out": Retrain(),
    "mixed ascent": MixedAfterStageOne(),
    "negative, to chance": OnAllRows(kind="to chance"),
    "negative, without an end": OnAllRows(kind="without an end"),
    "relabelled": OnAllRows(kind="relabelled"),
}


def run(attack_name: str, n_wrong: int, cure: str, seed: int) -> dict[str, Any]:
    """Poison, fit and measure one cell."""
    origin = provenance()  # of the code that has been imported, not of what lands meanwhile
    X, y = load_digits_images()
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=seed)
    attack = make_attack(attack_name).fit(X, y)
    X_bad, y_bad, poison = make_poisoned(X, y, attack=attack, poison_rate=0.1, random_state=seed)
    rng = np.random.default_rng(seed)
    flagged = poison.copy()
    flagged[rng.permutation(np.flatnonzero(poison))[: math.ceil(0.02 * poison.sum())]] = False
    flagged[rng.permutation(np.flatnonzero((y_bad == TARGET) & ~poison))[:n_wrong]] = True
    clf = ABLClassifier(
        cure=CURES[cure],
        backbone="small-cnn",
        epochs=_EPOCHS,
        batch_size=32,
        random_state=seed,
    )
    predicted = clf.fit(X_bad, y_bad, suspects=flagged).predict(X_test)
    given = clf.predict(attack.transform(X_test))
    own, victims = y_test == TARGET, y_test != TARGET
    return {
        "attack": attack_name,
        "n_wrong": n_wrong,
        "cure": cure,
        "seed": seed,
        "ca": clean_accuracy(y_test, predicted),
        "asr": float((given == TARGET)[victims].mean()),
        "r_acc": float((given == y_test)[victims].mean()),
        "target_recall": float((predicted == TARGET)[own].mean()),
        "target_recall_triggered": float((given == TARGET)[own].mean()),
    } | origin


def print_table() -> None:
    """Print the means over attacks and seeds as a Markdown table, in per cent."""
    rows = read_rows(RESULTS, ROWS)
    print("| flagged in error | cure | fits | CA | ASR | R-Acc | target recall | triggered |")
    print("|" + "---|" * 8)
    for n_wrong in N_WRONG:
        for cure in CURES:
            cells = [row for row in rows if (row["n_wrong"], row["cure"]) == (n_wrong, cure)]
            figures = [f"{100 * np.mean([row[name] for row in cells]):.1f}" for name in _FIGURES]
            print(f"| {n_wrong} | {cure} | {len(cells)} | {' | '.join(figures)} |")


def main() -> None:
    """Run the cells that are not finished."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    if parser.parse_args().table:
        print_table()
        return
    done = {ROWS.key(row) for row in resume_rows(RESULTS, ROWS)}
    for seed in SEEDS:
        for attack in ATTACKS:
            for n_wrong in N_WRONG:
                for cure in CURES:
                    if (attack, n_wrong, cure, seed) not in done:
                        row = run(attack, n_wrong, cure, seed)
                        append_row(RESULTS, row)


if __name__ == "__main__":
    main()
