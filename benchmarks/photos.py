"""What the size of photos costs and finds: a search of images that were stamped at 224 x 224.

    OMP_NUM_THREADS=1 python benchmarks/photos.py --out benchmarks/results/photos.jsonl

Images of CIFAR-10 are enlarged to 224 x 224. A tenth of them gets a BadNets patch at this size and
the label of one class. Then they are made smaller, as `antibackdoor scan --size` does, and searched
with a network of random weights. A share of the minutes of 224 x 224 is told beside: that of the
estimates. With --classifier the clean classifier is trained too, and tried on test images.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import append_row, load_cifar10, provenance
from PIL import Image

from antibackdoor import ABLClassifier, PoisonSearch
from antibackdoor.backbones import choose_backbone
from antibackdoor.inspection import estimate_fit

PHOTO, CELLS, TARGET, RATE = 224, 3, 0, 0.1


def seen_at(side: int, image: np.ndarray, patch: int) -> np.ndarray:
    """Return an image as a photo of 224 x 224, stamped if `patch` is not 0, at another size."""
    photo = np.array(Image.fromarray(image).resize((PHOTO, PHOTO), Image.Resampling.BICUBIC))
    if patch:
        cell = patch // CELLS
        board = (np.indices((CELLS, CELLS)).sum(axis=0) % 2 == 0).repeat(cell, 0).repeat(cell, 1)
        photo[-patch:, -patch:] = 255 * board[..., None]
    return np.asarray(Image.fromarray(photo).resize((side, side), Image.Resampling.BILINEAR))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default="../shared/data")
    parser.add_argument("--n-train", type=int, default=1000)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--patches", type=int, nargs="+", default=[21, 9], help="of 224 pixels")
    parser.add_argument("--backbone", default="auto")
    parser.add_argument("--classifier", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    origin = provenance()
    images, test, labels, y_test = load_cifar10(arguments.data_root, arguments.n_train)
    drawn = np.random.RandomState(arguments.seed).permutation(np.flatnonzero(labels != TARGET))
    poison = np.isin(np.arange(len(labels)), drawn[: round(RATE * len(labels))])
    y = np.where(poison, TARGET, labels)
    for side in arguments.sides:
        for patch in arguments.patches:
            stamped = zip(images, poison, strict=True)
            X = np.stack([seen_at(side, image, patch * bad) for image, bad in stamped])
            settings = {"backbone": arguments.backbone, "random_state": arguments.seed}
            kind = ABLClassifier if arguments.classifier else PoisonSearch
            fit = kind(**settings)
            estimated = estimate_fit(fit, X, y)
            started, used = time.perf_counter(), time.process_time()
            fit.fit(X, y)
            seconds, used = time.perf_counter() - started, time.process_time() - used
            flagged = fit.isolate_mask_
            named = arguments.backbone
            row = {
                "side": side,
                "patch": patch,
                "backbone": choose_backbone((3, side, side)) if named == "auto" else named,
                "fit": kind.__name__,
                "n_images": len(y),
                "seed": arguments.seed,
                "p_value": float(fit.isolate_pvalue_),
                "tpr": round(float(flagged[poison].mean()), 4),
                "fpr": round(float(flagged[~poison].mean()), 4),
                "ca": None,
                "asr": None,
                "minutes_estimated": round(estimated / 60, 1),
                "minutes": round(seconds / 60, 1),
                "minutes_of_processor": round(used / 60, 1),
            }
            if arguments.classifier:
                row |= scores(fit, side, patch, test[:1000], y_test[:1000])
            append_row(arguments.out, row | origin)
            print(row, flush=True)


def scores(fit: Any, side: int, patch: int, test: np.ndarray, y_test: np.ndarray) -> dict[str, Any]:
    """Return the accuracy on clean test images, and how often the patch works."""
    clean, stamped = (np.stack([seen_at(side, image, of) for image in test]) for of in (0, patch))
    others = y_test != TARGET
    return {
        "ca": round(fit.score(clean, y_test), 4),
        "asr": round(float((fit.predict(stamped[others]) == TARGET).mean()), 4),
    }


if __name__ == "__main__":
    main()
