"""About how long a whole fit takes on this machine, by size and number of images.

    python benchmarks/costs.py --out benchmarks/results/costs.jsonl

As `estimate_fit` tells it, from a few steps on noise. Then `python benchmarks/fill_pages.py` puts
them into README.md and docs/guide/photos.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from _common import append_row, provenance

from antibackdoor import ABLClassifier
from antibackdoor.backbones import choose_backbone
from antibackdoor.inspection import estimate_fit

#: Side, channels and number of images.
CASES = (
    (8, 1, 1797),
    (32, 3, 5000),
    (32, 3, 50_000),
    (64, 3, 1000),
    (128, 3, 1000),
    (224, 3, 1000),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    origin = provenance()
    random_state = np.random.RandomState(0)
    classifier = ABLClassifier(layout="channels_last", random_state=0)
    for side, channels, n_images in CASES:
        X = random_state.randint(0, 256, (n_images, side, side, channels), dtype=np.uint8)
        minutes = estimate_fit(classifier, X, np.arange(n_images) % 10) / 60
        row = {
            "side": side,
            "n_images": n_images,
            "backbone": choose_backbone((channels, side, side)),
            "minutes": round(minutes, 1),
        }
        append_row(arguments.out, row | origin)
        print(row, flush=True)


if __name__ == "__main__":
    main()
