"""What the methods found and predicted when the reference was written, they find today.

Each fit is small: 300 poisoned digits, two or three epochs, one thread. Its flagged rows and the
labels that it predicts are compared with those in `reference.json`. On another processor sums are
rounded in another order, so rows in a hundred may differ, but no more than two; on the machine
that wrote the file none does. A step that only moves code must leave it as it is. Where results are
meant to change, renew it and say in the commit why::

    OMP_NUM_THREADS=1 python tests/test_reference.py
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from antibackdoor import (
    ABLClassifier,
    CBDClassifier,
    LossRank,
    PoisonSearch,
    Retrain,
    SpectralSignatures,
    make_poisoned,
)
from antibackdoor.datasets import load_digits_images

REFERENCE = Path(__file__).with_name("reference.json")

# Share of the rows that another processor may take otherwise.
_TOLERANCE = 0.02

_SMALL = {"backbone": "small-cnn", "random_state": 0, "device": "cpu"}

FITS = {
    "abl": lambda: ABLClassifier(
        detector=PoisonSearch(epochs=3), epochs=3, batch_size=32, **_SMALL
    ),
    "abl paper": lambda: ABLClassifier.from_paper(
        detector__epochs=2, detector__ratio=0.05, epochs=2, **_SMALL
    ),
    "abl released": lambda: ABLClassifier.from_paper(
        "released", detector__epochs=3, detector__ratio=0.05, epochs=3, **_SMALL
    ),
    "abl table": lambda: ABLClassifier(
        detector=LossRank(ratio=0.05, epochs=3), epochs=3, random_state=0, device="cpu"
    ),
    "cbd": lambda: CBDClassifier(
        detector=PoisonSearch(epochs=3), epochs=3, batch_size=32, **_SMALL
    ),
    "cbd paper": lambda: CBDClassifier.from_paper(detector__epochs=2, epochs=3, **_SMALL),
    "spectral signatures": lambda: ABLClassifier(
        detector=SpectralSignatures(epochs=2, batch_size=32),
        cure=Retrain(),
        epochs=3,
        batch_size=32,
        **_SMALL,
    ),
}


def found_by(name):
    """Fit, and return the flagged rows and the predicted labels."""
    X, y = load_digits_images()
    X, y, _ = make_poisoned(X[:300], y[:300], poison_rate=0.1, random_state=0)
    if name == "abl table":
        X = X.reshape(len(X), -1) / 255
    clf = FITS[name]().fit(X, y)
    return {
        "flagged": sorted(clf.isolate_.tolist()),
        "predicted": "".join(map(str, clf.predict(X).tolist())),
    }


@pytest.fixture(scope="module")
def reference():
    return json.loads(REFERENCE.read_text())


def test_the_reference_is_of_these_fits(reference):
    assert reference.keys() == FITS.keys()
    assert sum(bool(fit["flagged"]) for fit in reference.values()) >= 4


@pytest.mark.parametrize("name", FITS)
def test_nothing_has_changed(name, reference):
    found, wanted = found_by(name), reference[name]
    n_rows = len(wanted["predicted"])
    assert len(found["predicted"]) == n_rows
    flags = set(found["flagged"]) ^ set(wanted["flagged"])
    labels = [
        row
        for row, pair in enumerate(zip(found["predicted"], wanted["predicted"], strict=True))
        if pair[0] != pair[1]
    ]
    assert len(flags) <= _TOLERANCE * n_rows, sorted(flags)
    assert len(labels) <= _TOLERANCE * n_rows, labels


def main():
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    found = {name: found_by(name) for name in FITS}
    lines = [f" {json.dumps(name)}: {json.dumps(fit)}" for name, fit in found.items()]
    REFERENCE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    for name, fit in found.items():
        n_right = np.mean([*map(int, fit["predicted"])] == load_digits_images()[1][:300])
        print(f"{name}: {len(fit['flagged'])} flagged, {n_right:.2f} of the true labels predicted")


if __name__ == "__main__":
    main()
