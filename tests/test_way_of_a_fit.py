"""The architecture page walks from `fit` to the gradient: the code goes the same way."""

import inspect
import re
import traceback
from pathlib import Path

import pytest
import torch

import antibackdoor
from antibackdoor import ABLClassifier, CBDClassifier, LossRank, Retrain

PACKAGE = Path(antibackdoor.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"


def test_the_page_walks_from_fit_to_the_gradient(digits, monkeypatch):
    page = PAGE.read_text(encoding="utf-8")
    walked = re.findall(r"^\| \d+ \| `(?:\w+\.)?(\w+)`", page, re.MULTILINE)
    ways = []
    backward = torch.Tensor.backward

    def watched(tensor, *args, **kwargs):
        frames = traceback.extract_stack()[:-1]
        ways.append([f.name for f in frames if Path(f.filename).is_relative_to(PACKAGE)])
        return backward(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "backward", watched)
    X, y = digits
    detector = LossRank(epochs=1)
    ABLClassifier(detector=detector, cure=Retrain(), epochs=1, random_state=0).fit(X[:60], y[:60])
    of_the_cure = ways[-1]
    assert [*of_the_cure[of_the_cure.index("fit") :], "backward"] == walked
    assert len(walked) == 9


@pytest.mark.parametrize("kind", [ABLClassifier, CBDClassifier])
def test_a_constructor_has_few_parameters(kind):
    assert len(inspect.signature(kind).parameters) <= 19
