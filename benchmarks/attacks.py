"""Every attack at its defaults against undefended training, and how visible its trigger is.

    python benchmarks/attacks.py --data-root ../shared/data --shard 0/2 &
    python benchmarks/attacks.py --data-root ../shared/data --shard 1/2 &
    python benchmarks/attacks.py --table
    python benchmarks/attacks.py --gallery docs/attacks.png --data-root ../shared/data

The first 5,000 images of CIFAR-10, `wrn-16-1`, 20 epochs without augmentation, 10,000 test
images. An attack that is finished is a line of JSON in benchmarks/results/attacks.jsonl, and its
fitted form, with whatever it trained, a pickle in --cache; a second run takes up where the first
one was stopped. Needs `pip install --group benchmark`.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time
from operator import itemgetter
from pathlib import Path
from typing import Any

# Before torch is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _common import PROVENANCE, append_row, load_cifar10, provenance, resume_rows
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from antibackdoor import UndefendedClassifier, make_poisoned
from antibackdoor.attacks import ATTACKS, BadNets, BaseAttack
from antibackdoor.benchmark import RowFormat, read_rows
from antibackdoor.metrics import clean_accuracy

RESULTS = Path(__file__).parent / "results" / "attacks.jsonl"
ROWS = RowFormat(
    key=itemgetter("attack"),
    columns=("attack", "epochs", "ca", *PROVENANCE),
    # Of all but the row without an attack.
    optional=(
        *("clean_label", "poison_rate", "fit_seconds", "poison_psnr", "poison_ssim"),
        *("asr", "asr_without_trigger", "trigger_psnr", "trigger_ssim"),
    ),
)
SEED = 0
DIRTY_RATE, CLEAN_RATE = 0.10, 0.05  # of all rows; the latter is half of the target class

#: Everything with a name, and one label map that asks for other numbers.
NAMES = ["none", "badnets-all-to-all", *ATTACKS]


def make(name: str) -> BaseAttack:
    """Return the attack of a row of the table."""
    return BadNets(label_map="all_to_all") if name == "badnets-all-to-all" else ATTACKS[name]()


def fitted(name: str, X: np.ndarray, y: np.ndarray, cache: Path) -> tuple[BaseAttack, float]:
    """Return an attack fitted on the clean rows, and the seconds that took."""
    path = cache / f"{name}.pickle"
    if path.exists():
        return pickle.loads(path.read_bytes())
    started = time.perf_counter()
    attack = make(name).fit(X, y)
    pair = attack, time.perf_counter() - started
    cache.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(pair))
    return pair


def run(name: str, data_root: str, epochs: int, cache: Path) -> dict[str, Any]:
    """Poison, train and measure one row."""
    origin = provenance()  # of the code that has been imported, not of what lands meanwhile
    X, X_test, y, y_test = load_cifar10(data_root)
    row: dict[str, Any] = {"attack": name, "epochs": epochs}
    if name != "none":
        attack, seconds = fitted(name, X, y, cache)
        rate = CLEAN_RATE if attack.clean_label else DIRTY_RATE
        X_clean = X
        X, y, poison_mask = make_poisoned(X, y, attack=attack, poison_rate=rate, random_state=SEED)
        row |= {"clean_label": attack.clean_label, "poison_rate": rate, "fit_seconds": seconds}
        row |= visibility("poison", X_clean[poison_mask], X[poison_mask])
    clf = UndefendedClassifier(
        backbone="wrn-16-1", epochs=epochs, augment=None, random_state=SEED
    ).fit(X, y)
    predicted = clf.predict(X_test)
    row["ca"] = clean_accuracy(y_test, predicted)
    if name != "none":
        victims = attack.transform_target(y_test) != y_test
        triggered = attack.transform(X_test[victims])
        row["asr"] = float(attack.succeeded(y_test[victims], clf.predict(triggered)).mean())
        row["asr_without_trigger"] = float(
            attack.succeeded(y_test[victims], predicted[victims]).mean()
        )
        row |= visibility("trigger", X_test[victims][:1_000], triggered[:1_000])
    return row | origin


def visibility(what: str, clean: np.ndarray, changed: np.ndarray) -> dict[str, float]:
    """Return mean PSNR (dB) and SSIM on 0..255 of changed images against the clean ones."""
    pairs = [(a, b) for a, b in zip(clean, changed, strict=True) if not np.array_equal(a, b)]
    psnr = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs]
    ssim = [structural_similarity(a, b, data_range=255, channel_axis=-1) for a, b in pairs]
    return {f"{what}_psnr": float(np.mean(psnr)), f"{what}_ssim": float(np.mean(ssim))}


def print_table() -> None:
    """Print the finished rows as a Markdown table."""
    rows = {row["attack"]: row for row in read_rows(RESULTS, ROWS)}
    print(
        "| attack | labels | rate | CA | ASR | without trigger | PSNR, dB | SSIM "
        "| PSNR of poison | SSIM of poison | seconds to fit |"
    )
    print("|" + "---|" * 11)
    for name in NAMES:
        if name not in rows:
            continue
        row = rows[name]
        if name == "none":
            print(f"| none | | | {100 * row['ca']:.1f} | | | | | | | |")
            continue
        labels = "clean" if row["clean_label"] else "dirty"
        print(
            f"| {name} | {labels} | {row['poison_rate']:.0%} | {100 * row['ca']:.1f} "
            f"| {100 * row['asr']:.1f} | {100 * row['asr_without_trigger']:.1f} "
            f"| {row['trigger_psnr']:.1f} | {row['trigger_ssim']:.3f} "
            f"| {row['poison_psnr']:.1f} | {row['poison_ssim']:.3f} | {row['fit_seconds']:.1f} |"
        )


def draw_gallery(path: str, data_root: str, cache: Path) -> None:
    """Save a figure: clean image, triggered image, ten times the difference; a row an attack."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    X, X_test, y, y_test = load_cifar10(data_root)
    # One image of a class that every attack at its defaults turns into another.
    image = X_test[np.flatnonzero(y_test == 8)[:1]]
    names = [name for name in NAMES if name not in ("none", "badnets-all-to-all")]
    fig, axes = plt.subplots(len(names), 4, figsize=(6.4, 1.45 * len(names)), layout="constrained")
    titles = ("clean", "triggered", "difference x 10", "poisoned training row")
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    for name, row in zip(names, axes, strict=True):
        attack, _ = fitted(name, X, y, cache)
        triggered = attack.transform(image)
        difference = np.clip(128 + 10 * (triggered.astype(int) - image), 0, 255)
        poison = _one_poisoned_row(attack, X, y)
        pictures = (image[0], triggered[0], difference[0], poison)
        for ax, picture in zip(row, pictures, strict=True):
            ax.imshow(picture.astype(np.uint8), interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
        row[0].set_ylabel(name, fontsize=8)
    fig.savefig(path, dpi=100)
    print(f"written: {path}")


def _one_poisoned_row(attack: BaseAttack, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    rate = 20 / len(X)
    X_bad, _, poison_mask = make_poisoned(X, y, attack=attack, poison_rate=rate, random_state=SEED)
    return X_bad[poison_mask][0]


def main() -> None:
    """Run the attacks of this shard that are not finished, or show what is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", default="data", help="holds cifar-10-batches-py/")
    parser.add_argument("--cache", type=Path, default=Path("build/attacks"), help="fitted attacks")
    parser.add_argument("--epochs", type=int, default=20, help="of undefended training")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--shard", default="0/1", help="I/N: every N-th attack from the I-th")
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    parser.add_argument("--gallery", metavar="PNG", help="draw the gallery and stop")
    arguments = parser.parse_args()
    if arguments.table:
        print_table()
        return
    if arguments.gallery:
        draw_gallery(arguments.gallery, arguments.data_root, arguments.cache)
        return
    shard, n_shards = map(int, arguments.shard.split("/"))
    for name in arguments.only[shard::n_shards]:
        if name in {row["attack"] for row in resume_rows(RESULTS, ROWS)}:
            continue
        row = run(name, arguments.data_root, arguments.epochs, arguments.cache)
        append_row(RESULTS, row)
        print({key: row.get(key) for key in ("attack", "ca", "asr", "trigger_psnr")}, flush=True)


if __name__ == "__main__":
    main()
