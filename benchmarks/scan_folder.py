"""What `antibackdoor scan` finds in a folder that `antibackdoor poison` has poisoned.

    python benchmarks/scan_folder.py --work /tmp/scan --data-root ../shared/data

Writes the first 3,000 training images of CIFAR-10 as PNG into class folders, poisons a tenth of
them with BadNets, and scans the copy: each as a user would, by a command in a process of its own
and at its defaults, on one thread. Prints what was on the screen, and precision, recall and time.
Called again it goes on with a scan that was stopped.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from antibackdoor.datasets import load_dataset


def write_folder(folder: Path, data_root: str, n_images: int) -> None:
    """Write the first training images, each into the folder of its class."""
    data = load_dataset("cifar10", data_root=data_root)
    for row, (pixels, label) in enumerate(zip(data.X_train[:n_images], data.y_train, strict=False)):
        path = folder / data.class_names[label] / f"{row:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def command(*words: object) -> tuple[int, str]:
    """Run a command of antibackdoor, and return its exit code and what it printed."""
    answer = subprocess.run(
        [sys.executable, "-m", "antibackdoor", *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    print(answer.stdout, flush=True)
    return answer.returncode, answer.stdout


def read_column(path: Path, column: str) -> dict[str, int]:
    """Return a column of a table by the names of the files."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["file_name"]: int(row[column]) for row in csv.DictReader(file)}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="where all of it is written")
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--attack", default="badnets")
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--target", default="airplane")
    parser.add_argument("--scan", nargs=argparse.REMAINDER, default=[], help="words for the scan")
    asked = parser.parse_args()
    clean, poisoned, scan = (asked.work / name for name in ("folder", "poisoned", "scan"))
    if not clean.exists():
        write_folder(clean, asked.data_root, asked.images)
    words = ["poison", clean, "--out", poisoned, "--attack", asked.attack]
    code, _ = command(*words, "--rate", asked.rate, "--target", asked.target, "--force")
    if code:
        sys.exit(code)
    started = time.perf_counter()
    how = "--resume" if (scan / "checkpoints").exists() else "--force"
    code, _ = command("scan", poisoned, "--out", scan, how, "--threads", 1, *asked.scan)
    seconds = time.perf_counter() - started
    if code not in (0, 3):
        sys.exit(code)
    truth = read_column(asked.work / "poisoned.mask.csv", "poisoned")
    flagged = read_column(scan / "suspects.csv", "flagged")
    hits = sum(truth[name] and flagged[name] for name in truth)
    n_flagged, n_poisoned = sum(flagged.values()), sum(truth.values())
    precision = f"{hits / n_flagged:.4f}" if n_flagged else "none"
    print(f"exit code {code}, {len(truth)} images, {n_poisoned} poisoned, {n_flagged} flagged")
    print(f"precision {precision}, recall {hits / n_poisoned:.4f}, {seconds:.0f} s by the clock")


if __name__ == "__main__":
    main()
