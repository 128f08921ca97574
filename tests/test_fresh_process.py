"""What only a fresh process can tell: one for all of it, since each takes seconds to import."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

DIGEST = """
import numpy as np, torch
from antibackdoor.training import HeldLoss, ShuffledRows
from antibackdoor.training._digest import digest_of
digest = digest_of({"a": [1, "b"], "rows": ShuffledRows(torch.arange(9), 4),
                    "objective": HeldLoss(0.5, "batch"), "X": np.arange(4.0)})
"""

PROGRAM = (
    """
import json, sys
from antibackdoor import ABLClassifier, LossRank, Mixed
at_once = "torchvision" in sys.modules
sys.modules["torchvision"] = None
"""
    + DIGEST
    + """
X = np.random.default_rng(0).normal(size=(40, 3))
cure = Mixed(epochs=1, recovery_epochs=1)
clf = ABLClassifier(detector=LossRank(epochs=1), cure=cure, epochs=1)
labels = clf.fit(X, X[:, 0] > 0).predict(X)
try:
    ABLClassifier(backbone="resnet18").fit(X.reshape(10, 3, 4), [0, 1] * 5)
except ValueError as error:
    message = str(error)
print(json.dumps(dict(at_once=at_once, n_labels=len(labels), message=message, digest=digest)))
"""
)


@pytest.fixture(scope="module")
def told():
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    return json.loads(answer.stdout)


def test_tables_need_no_torchvision(told):
    """The tabular path must work where torchvision does not import."""
    assert not told["at_once"]
    assert told["n_labels"] == 40
    assert "backbone='resnet18' is unknown" in told["message"]


def test_another_process_finds_the_same_digest(told):
    scope = {}
    exec(DIGEST, scope)
    assert told["digest"] == scope["digest"]
