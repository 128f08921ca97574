"""What a newcomer tries first, and what the answer points to."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from antibackdoor import (
    ABLClassifier,
    CBDClassifier,
    FitProgress,
    LossRank,
    Mixed,
    PoisonSearch,
    RelativeLoss,
    UndefendedClassifier,
)
from antibackdoor.attacks import BadNets
from antibackdoor.cli import main
from antibackdoor.cli._data import Data, read_data
from antibackdoor.cli._time import tell_time
from antibackdoor.inspection import estimate_fit
from antibackdoor.utils import in_words


@pytest.mark.parametrize("estimator", [ABLClassifier(), PoisonSearch(), BadNets()])
@pytest.mark.parametrize("path", ["photos", Path("photos")])
def test_a_path_is_not_rows(estimator, path):
    with pytest.raises(ValueError, match="is a path; wanted the rows.*load_image_folder"):
        estimator.fit(path, [0, 1])


@pytest.mark.parametrize("kind", [ABLClassifier, CBDClassifier, PoisonSearch])
def test_verbose_names_the_callback(kind):
    with pytest.raises(TypeError, match=rf"{kind.__name__} has no verbose.*FitProgress"):
        kind(verbose=1)


def test_help_says_what_to_call():
    import antibackdoor

    listed = antibackdoor.__doc__
    assert [name for name in antibackdoor.__all__ if name not in listed] == []
    for kind in (ABLClassifier, CBDClassifier, PoisonSearch):
        start = kind.__doc__.split("Parameters")[0]
        assert f"{kind.__name__}().fit(X, y)" in start


def test_an_attack_that_is_not_found_names_the_path(tmp_path, capsys):
    words = ["bench", "quick", "--attacks", "mine.Attack", "--out", str(tmp_path / "out")]
    assert main([*words, "--dry-run"]) == 2
    assert "PYTHONPATH=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (89, "89 s"),
        (720, "12 min"),
        (12_000, "3 h 20 min"),
        (90_000, "1 day 1 h"),
        (200_000, "2 days 7 h"),
    ],
)
def test_a_time_in_words(seconds, words):
    assert in_words(seconds) == words


@pytest.mark.parametrize(
    ("side", "size", "wanted"), [(224, None, 64), (224, 224, 224), (48, None, 48)]
)
def test_large_photos_are_made_small_unless_asked_otherwise(side, size, wanted, tmp_path):
    for name in ("cats/1.png", "dogs/1.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (side, side)).save(tmp_path / name)
    data = read_data([str(tmp_path)], size=size, crop=True)
    assert data.X.shape == (2, wanted, wanted, 3)
    told = "\n".join(data.lines)
    assert ("--size 224 looks closer, and takes about 12 times as long" in told) == (wanted < side)


def test_above_an_hour_it_says_what_makes_it_shorter():
    photos = Data(np.zeros((2, 224, 224, 3)), np.zeros(2), folder=Path("photos"))
    assert tell_time(3000, photos) == ["estimated time, from a few steps: about 50 min"]
    told = tell_time(90_000, photos)[1]
    for word in ("--size 64 (images of 64 pixels, about 0.08 of it)", "--list-only", "--device"):
        assert word in told
    small = Data(np.zeros((2, 32, 32, 3)), np.zeros(2), folder=Path("photos"))
    assert "--size" not in tell_time(90_000, small)[1]


def test_a_fit_is_estimated_from_a_few_rows(digits):
    X, y = digits
    short, long = (
        estimate_fit(UndefendedClassifier(epochs=epochs, backbone="mlp"), X, y)
        for epochs in (2, 20_000)
    )
    assert 0 < short < long
    rare = np.arange(len(y)) == 1  # in no sample of rows from all over the data
    assert estimate_fit(UndefendedClassifier(epochs=1, backbone="mlp"), X, rare) > 0


class Waiting(torch.nn.Module):
    """Takes the same time for a step, however many samples it has."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(64, 10)

    def forward(self, x):
        if self.training and len(x) > 2:  # not when it is looked at before
            time.sleep(0.005)
        return self.head(x.flatten(1))


def test_the_steps_of_a_search_are_timed(digits):
    X, y = digits[0][:200], digits[1][:200]
    large = UndefendedClassifier(backbone=Waiting(), epochs=10, batch_size=128)
    search = PoisonSearch(backbone=Waiting(), epochs=10)
    of_large, of_search = (estimate_fit(each, X, y) for each in (large, search))
    # Two steps a pass, of 128 samples; 25 of 8 samples, and five times as many passes.
    assert 15 < of_search / of_large < 200
    long = {"backbone": Waiting(), "epochs": 60, "batch_size": 8}
    both = ABLClassifier(detector=PoisonSearch(epochs=10), **long)
    of_long, of_both = (estimate_fit(each, X, y) for each in (UndefendedClassifier(**long), both))
    assert of_both == pytest.approx(of_search + of_long, rel=0.3)


def test_steps_that_are_known_are_not_timed_again(digits):
    X, y = digits
    known = {}
    once, twice = (
        estimate_fit(UndefendedClassifier(epochs=epochs, backbone="mlp"), X, y, known=known)
        for epochs in (2, 4)
    )
    assert len(known) == 1 and twice == 2 * once
    # A batch of another size is another kind of step.
    estimate_fit(UndefendedClassifier(batch_size=8, backbone="mlp"), X, y, known=known)
    assert len(known) == 2


def test_a_fit_that_cannot_be_estimated(digits):
    X, y = digits
    with pytest.raises(TypeError, match="classifier=.*wanted a classifier or detector"):
        estimate_fit(ABLClassifier, X, y)
    with pytest.raises(ValueError, match="'epochs' parameter"):
        estimate_fit(UndefendedClassifier(epochs=0), X, y)
    for clf, what in (
        (ABLClassifier(detector=LossRank(ratio=7)), "'ratio' parameter of LossRank"),
        (ABLClassifier(detector=LossRank(lr_schedule=(5, 3))), "lr_schedule"),
        (ABLClassifier(cure=Mixed(bound=-1.0)), "'bound' parameter of Mixed"),
        (CBDClassifier(weighting=RelativeLoss(rejection=-1.0)), "'rejection' parameter"),
        (PoisonSearch(learning_rate=1e300), "learning_rate=1e.300; wanted a number"),
    ):
        for asked in (lambda clf: estimate_fit(clf, X, y), lambda clf: clf.fit(X, y)):
            with pytest.raises(ValueError, match=what):
                asked(clf)
    with pytest.raises(ValueError, match="X and y"):
        estimate_fit(UndefendedClassifier(), X, y[:10])
    with pytest.raises(TypeError, match="estimate='no'; wanted True or False"):
        FitProgress(estimate="no")
    # Of a table, and as lists.
    table = X[:64].reshape(64, -1).tolist()
    assert estimate_fit(UndefendedClassifier(epochs=1), table, y[:64].tolist()) > 0


@pytest.mark.parametrize(
    "parts", [("train", "test"), ("Train", "cats"), ("test", "cats"), ("cats", "dogs")]
)
def test_the_parts_of_a_set_get_a_remark(parts, tmp_path):
    for name in parts:
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("L", (8, 8), number).save(tmp_path / name / f"{number}.png")
    told = "\n".join(read_data([str(tmp_path)], size=None, crop=True).lines)
    named = [name for name in parts if name.lower() in ("train", "test")]
    assert ("scan the part that you train on" in told) == bool(named)
    assert all(repr(name) in told for name in named)
    # The part to scan is the one to train on, not the first of the alphabet.
    assert (f"such as {tmp_path / parts[0]}" in told) == (parts[0].lower() == "train")
