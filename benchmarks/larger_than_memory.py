"""What a fit costs on data that stays where it is: memory, and time per image.

    python benchmarks/larger_than_memory.py --n 1000000 --out /tmp/larger

Makes X (n, 32, 32, 3) of uint8, random images whose mean depends on their class, and fits
`ABLClassifier`, both phases and the search between them, in a process of its own: on the array,
on the same array mapped from its file, and on 2,000 of its images, whose peak memory is what
the others are compared with. With --images the same for a folder of PNG files, loaded and opened;
with --predict predictions of as many images, in an array, instead of fits.

Prints one JSON object a line. `seconds` are of the whole fit, `images_per_second` of its epochs
alone, `extra_mb` the peak of all memory (VmHWM) and `extra_anonymous_mb` that of what is no
file's (RssAnon, asked for ten times a second), each beyond that of the fit on 2,000 images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

N_CLASSES = 10
FEW = 2_000
# Rows that are made at a time.
CHUNK = 10_000


def main() -> None:
    """Make the data, and measure one fit after the other."""
    arguments = parse()
    if arguments.kind:
        print(json.dumps(measure(arguments)))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    make_file(arguments.out / "X.npy", arguments.n)
    if arguments.predict:
        few = fit_elsewhere(arguments, "predict", FEW)
        print(json.dumps(beyond(few, fit_elsewhere(arguments, "predict", arguments.predict))))
        return
    if arguments.mapped_only:
        few = fit_elsewhere(arguments, "few-mapped", FEW)
        print(json.dumps(beyond(few, fit_elsewhere(arguments, "mapped", arguments.n))))
        return
    compare(arguments, "array", "mapped", arguments.n)
    if arguments.images:
        make_folder(arguments.out / "images", arguments.out / "X.npy", arguments.images)
        compare(arguments, "loaded", "opened", arguments.images)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description="Memory and time of fits on large data.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the data")
    parser.add_argument("--n", type=int, default=1_000_000, help="images of the array")
    parser.add_argument(
        "--images", type=int, default=0, help="images of the folder, none by default"
    )
    parser.add_argument("--predict", type=int, default=0, help="images to predict, of the array")
    parser.add_argument("--n-jobs", type=int, default=2, help="processes that decode")
    parser.add_argument(
        "--backbone", default="small-cnn", help='"light": a layer, for a million images in minutes'
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2, help="of each phase")
    parser.add_argument("--rounds", type=int, default=1, help="fits of each kind, alternating")
    parser.add_argument("--mapped-only", action="store_true", help="memory, and no comparison")
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_file(path: Path, n: int) -> None:
    """Write the images, unless they are there."""
    if path.exists() and len(np.load(path, mmap_mode="r")) == n:
        return
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(path, "w+", dtype=np.uint8, shape=(n, 32, 32, 3))
    for start in range(0, n, CHUNK):
        labels = labels_of(n)[start : start + CHUNK]
        noise = rng.integers(0, 128, (len(labels), 32, 32, 3), dtype=np.uint8)
        X[start : start + CHUNK] = noise + (12 * labels)[:, None, None, None].astype(np.uint8)
    X.flush()


def labels_of(n: int) -> np.ndarray:
    """Return the class of each image."""
    return np.arange(n) % N_CLASSES


def make_folder(root: Path, path: Path, n: int) -> None:
    """Write the first images as PNG files, unless they are there."""
    X = np.load(path, mmap_mode="r")
    for label in range(N_CLASSES):
        (root / str(label)).mkdir(parents=True, exist_ok=True)
    for number, label in enumerate(labels_of(n)):
        file = root / str(label) / f"{number:07d}.png"
        if not file.exists():
            Image.fromarray(X[number]).save(file)


def compare(arguments: argparse.Namespace, in_memory: str, in_place: str, n: int) -> None:
    """Print what each costs beyond a fit on few images, and the ratio of their speeds."""
    few = fit_elsewhere(arguments, f"few-{in_place}", FEW)
    speeds: dict[str, list[float]] = {in_memory: [], in_place: []}
    for _ in range(arguments.rounds):
        for kind in (in_memory, in_place):
            row = beyond(few, fit_elsewhere(arguments, kind, n))
            speeds[kind].append(row["images_per_second"])
            print(json.dumps(row), flush=True)
    ratio = sum(speeds[in_memory]) / sum(speeds[in_place])
    print(json.dumps({"cost_per_image": f"{in_place} / {in_memory}", "ratio": round(ratio, 3)}))


def beyond(few: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Add to a row how far its peaks are above those of a fit on few images."""
    extra = {
        f"extra_{peak}": round(row[f"peak_{peak}"] - few[f"peak_{peak}"], 1)
        for peak in ("mb", "anonymous_mb")
    }
    return {**row, **extra}


def fit_elsewhere(arguments: argparse.Namespace, kind: str, n: int) -> dict[str, Any]:
    """Fit in a process of its own."""
    command = [sys.executable, __file__, "--kind", kind, "--n", str(n)]
    for name in ("out", "n_jobs", "backbone", "batch_size", "epochs"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError(f"the fit of {kind} has failed: {answer.stderr}")
    return json.loads(answer.stdout)


def light(input_shape: tuple[int, ...], n_classes: int) -> Any:
    """Return a network of one layer, with as many features as wrn-16-1."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(input_shape[0], 64, 8, 8),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, n_classes),
    )


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit once, and return what it cost."""
    from antibackdoor import ABLClassifier, PoisonSearch

    X, y = open_data(arguments)
    classifier = ABLClassifier(
        backbone=light if arguments.backbone == "light" else arguments.backbone,
        detector=PoisonSearch(epochs=arguments.epochs, batch_size=arguments.batch_size),
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        random_state=0,
    )
    predicts = arguments.kind == "predict"
    if predicts:
        classifier.fit(X[:FEW], y[:FEW])
    started = time.perf_counter()
    with Watch() as watch:
        if predicts:
            classifier.predict(X)
        else:
            classifier.fit(X, y)
    seconds = time.perf_counter() - started
    epochs = [row for row in classifier.history_ if row["phase"] in ("search", "finetune")]
    n_seen, seen_in = len(X) * len(epochs), sum(row["seconds"] for row in epochs)
    if predicts:
        n_seen, seen_in = len(X), seconds
    return {
        "kind": arguments.kind,
        "n": len(X),
        "backbone": arguments.backbone,
        "seconds": round(seconds, 1),
        "images_per_second": round(n_seen / seen_in, 1),
        "peak_mb": round(status("VmHWM"), 1),
        "peak_anonymous_mb": round(watch.highest, 1),
    }


def open_data(arguments: argparse.Namespace) -> tuple[Any, np.ndarray]:
    """Return X and y, of the kind that is measured."""
    from antibackdoor.datasets import load_image_folder, open_image_folder

    kind, n = arguments.kind, arguments.n
    if kind == "loaded":
        images = load_image_folder(arguments.out / "images")
    elif kind.endswith("opened"):
        images = open_image_folder(arguments.out / "images", n_jobs=arguments.n_jobs)
    else:
        X = np.load(arguments.out / "X.npy", mmap_mode=None if kind == "array" else "r")[:n]
        # An array of that size alone; its bytes are counted with the rest.
        return (np.array(X) if kind == "predict" else X), labels_of(len(X))
    # Class by class: some of them are some of each.
    step = max(1, len(images.y) // n)
    return images.X[::step], images.y[::step]


class Watch:
    """The highest RssAnon there is in a block, in MB: Linux keeps no peak of it."""

    def __enter__(self) -> Watch:
        self.highest = status("RssAnon")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.highest = max(self.highest, status("RssAnon"))


def status(name: str) -> float:
    """Return a line of this process's status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {name}; this runs on Linux.")


if __name__ == "__main__":
    main()
