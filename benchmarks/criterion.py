"""Does accuracy minus suspect retention, which needs no trigger, rank settings as CA - ASR does?

    python benchmarks/criterion.py
    python benchmarks/criterion.py --table

Digits, BadNets and Blend at 10 %, `small-cnn`. The suspects are what one fit of
CBDClassifier() flags in the poisoned rows. Each setting is then fitted on three quarters of
those rows and scored on the other quarter, as in one fold of a search; CA and ASR are those
of clean and of triggered test images. Each run is a line of JSON in
benchmarks/results/criterion.jsonl when it is finished, and a second start takes up where the
first one was stopped.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

# Before torch is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _common import PROVENANCE, append_row, provenance, resume_rows
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.model_selection import train_test_split

from antibackdoor import (
    ABLClassifier,
    Ascent,
    CBDClassifier,
    Joint,
    LossRank,
    Mixed,
    RelativeLoss,
    UndefendedClassifier,
    make_poisoned,
)
from antibackdoor.attacks import make_attack
from antibackdoor.benchmark import RowFormat, read_rows
from antibackdoor.datasets import load_digits_images
from antibackdoor.metrics import (
    attack_success_rate,
    clean_accuracy,
    isolation_precision,
    isolation_recall,
    make_retention_scorer,
    suspect_retention,
)

TARGET = 0
SEED = 0
ATTACKS = ("badnets", "blend")
RESULTS = Path(__file__).parent / "results" / "criterion.jsonl"
ROWS = RowFormat(
    key=itemgetter("attack", "setting"),
    columns=(
        *("attack", "setting", "accuracy", "retention", "retention_trained_on"),
        *("retention_held_out", "score", "ca", "asr", "asr_without_trigger", "n_suspects"),
        *("suspects_precision", "suspects_recall", "seconds", *PROVENANCE),
    ),
)

# About half of the default epochs or less: wanted are settings that differ, good and bad.
# A fixed share and no search: with the search nearly all of them would come out good.
_ABL = ABLClassifier(
    detector=LossRank(ratio=0.01, epochs=10),
    cure=Mixed(epochs=5, recovery_epochs=5),
    epochs=15,
    random_state=SEED,
)
_CBD = CBDClassifier(
    detector=LossRank(ratio=None, epochs=10),
    weighting=RelativeLoss(rejection=0.25),
    epochs=30,
    random_state=SEED,
)
_CURES = {"ascent": Ascent(epochs=5), "joint": Joint()}


def _each(base: Any, name: str, parameter: str, values: tuple[Any, ...]) -> dict[str, Any]:
    """Return a classifier for each value of a parameter, by the name that its rows have."""
    return {f"{name}={value}": clone(base).set_params(**{parameter: value}) for value in values}


#: Every setting by its name. Rows are kept under it, so it stays when parameters are renamed.
SETTINGS = {
    **_each(
        UndefendedClassifier(random_state=SEED), "undefended epochs", "epochs", (1, 2, 4, 8, 16, 32)
    ),
    **_each(_ABL, "abl isolation_ratio", "detector__ratio", (0.005, 0.01, 0.02, 0.05, 0.1)),
    **_each(_ABL, "abl gamma", "detector__gamma", (0.1, 1.0, 2.0)),
    **_each(_ABL, "abl unlearning_rate", "cure__learning_rate", (5e-4, 2e-3, 2e-2)),
    **_each(_ABL, "abl isolation_epochs", "detector__epochs", (2, 20)),
    **{
        f"abl unlearning={name} isolation_ratio={share}": clone(_ABL).set_params(
            cure=cure, detector__ratio=share
        )
        for name, cure in _CURES.items()
        for share in (0.01, 0.05, 0.1)
    },
    **_each(_CBD, "cbd rejection", "weighting__rejection", (0.0, 0.25, 0.5, 0.75)),
    **_each(_CBD, "cbd backdoor_epochs", "detector__epochs", (2, 5, 20)),
}


class Poisoned(NamedTuple):
    """What the runs of one attack share."""

    X: np.ndarray
    y: np.ndarray
    train: np.ndarray
    held_out: np.ndarray
    suspects: np.ndarray
    suspects_precision: float
    suspects_recall: float
    X_test: np.ndarray
    X_triggered: np.ndarray
    y_test: np.ndarray


@cache
def load(attack: str) -> Poisoned:
    """Poison the digits, and let one default defence say whom it suspects."""
    X, y = load_digits_images()
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=SEED)
    triggered = make_attack(attack, target_label=TARGET).fit(X, y).transform(X_test)
    X_bad, y_bad, poison_mask = make_poisoned(
        X, y, attack=attack, poison_rate=0.10, target_label=TARGET, random_state=SEED
    )
    train, held_out = train_test_split(np.arange(len(y)), stratify=y_bad, random_state=SEED)
    flagged = CBDClassifier(random_state=SEED).fit(X_bad, y_bad)
    return Poisoned(
        X=X_bad,
        y=y_bad,
        train=train,
        held_out=held_out,
        suspects=flagged.isolate_,
        suspects_precision=isolation_precision(poison_mask, flagged.isolate_mask_),
        suspects_recall=isolation_recall(poison_mask, flagged.isolate_mask_),
        X_test=X_test,
        X_triggered=triggered,
        y_test=y_test,
    )


def run(attack: str, setting: str) -> dict[str, Any]:
    """Train and measure one setting."""
    origin = provenance()  # of the code that has been imported, not of what lands meanwhile
    data = load(attack)
    started = time.perf_counter()
    clf = clone(SETTINGS[setting]).fit(data.X[data.train], data.y[data.train])
    seconds = time.perf_counter() - started

    def retention(rows: np.ndarray) -> float:
        return suspect_retention(data.y[rows], clf.predict(data.X[rows]))

    scorer = make_retention_scorer(data.X[data.suspects], data.y[data.suspects])
    seen = np.isin(data.suspects, data.train)
    predicted = clf.predict(data.X_test)
    return {
        "attack": attack,
        "setting": setting,
        # What the defender can know.
        "accuracy": clf.score(data.X[data.held_out], data.y[data.held_out]),
        "retention": retention(data.suspects),
        "retention_trained_on": retention(data.suspects[seen]),
        "retention_held_out": retention(data.suspects[~seen]),
        "score": scorer(clf, data.X[data.held_out], data.y[data.held_out]),
        # What only the attacker can.
        "ca": clean_accuracy(data.y_test, predicted),
        "asr": attack_success_rate(data.y_test, clf.predict(data.X_triggered), target_label=TARGET),
        "asr_without_trigger": attack_success_rate(data.y_test, predicted, target_label=TARGET),
        "n_suspects": len(data.suspects),
        "suspects_precision": data.suspects_precision,
        "suspects_recall": data.suspects_recall,
        "seconds": seconds,
        **origin,
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the runs and how far the two orders agree, as Markdown; shares in per cent."""
    shares = ("accuracy", "retention", "retention_held_out", "score", "ca", "asr")
    print("| attack | setting | accuracy | retention | held out | score | CA | ASR |")
    print("|" + "---|" * 8)
    for row in sorted(rows, key=lambda row: (row["attack"], -row["score"])):
        figures = " | ".join(f"{100 * row[name]:.1f}" for name in shares)
        print(f"| {row['attack']} | {row['setting']} | {figures} |")
    for attack in ATTACKS:
        print_agreement(attack, [row for row in rows if row["attack"] == attack])


def print_agreement(attack: str, rows: list[dict[str, Any]]) -> None:
    """Print the rank correlations over the runs of one attack, and the choice each makes."""
    if len(rows) < 2:
        return
    column = {
        name: np.array([row[name] for row in rows])
        for name in ("accuracy", "retention", "retention_held_out", "score", "ca", "asr")
    }
    truth = column["ca"] - column["asr"]
    score_held_out = column["accuracy"] - column["retention_held_out"]
    first = rows[0]
    print(
        f"\n{attack}: {len(rows)} runs, ASR above 95 in {np.sum(column['asr'] > 0.95)} and below 5 "
        f"in {np.sum(column['asr'] < 0.05)}; {first['n_suspects']} suspects, precision "
        f"{100 * first['suspects_precision']:.1f}, recall {100 * first['suspects_recall']:.1f}"
    )
    for name, known, wanted in [
        ("retention / ASR", column["retention"], column["asr"]),
        ("retention of held-out suspects / ASR", column["retention_held_out"], column["asr"]),
        ("accuracy - retention / CA - ASR", column["score"], truth),
        ("accuracy - retention of held-out suspects / CA - ASR", score_held_out, truth),
        ("accuracy alone / CA - ASR", column["accuracy"], truth),
    ]:
        print(f"  Spearman's rho, {name}: {spearmanr(known, wanted).statistic:.3f}")
    for name, values in [
        ("accuracy - retention", column["score"]),
        ("accuracy alone", column["accuracy"]),
        ("CA - ASR", truth),
    ]:
        row = rows[int(np.argmax(values))]
        print(
            f"  first by {name}: {row['setting']}, "
            f"CA {100 * row['ca']:.1f}, ASR {100 * row['asr']:.1f}"
        )


def main() -> None:
    """Do the runs that are not finished, then print all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="store_true", help="print the tables and stop")
    arguments = parser.parse_args()
    if not arguments.table:
        done = {ROWS.key(row) for row in resume_rows(RESULTS, ROWS)}
        for attack in ATTACKS:
            for setting in SETTINGS:
                if (attack, setting) in done:
                    continue
                row = run(attack, setting)
                append_row(RESULTS, row)
                names = ("attack", "setting", "score", "ca", "asr", "seconds")
                print({name: row[name] for name in names}, flush=True)
    print_table(read_rows(RESULTS, ROWS))


if __name__ == "__main__":
    main()
