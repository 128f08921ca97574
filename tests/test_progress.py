"""How far a fit is: the work that is expected, and the callback that shows it."""

import pickle
import random
import re
import sys
import time

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from antibackdoor import (
    ABLClassifier,
    CBDClassifier,
    FinePruningClassifier,
    FitProgress,
    LossRank,
    PoisonSearch,
    Retrain,
    UndefendedClassifier,
)
from antibackdoor.attacks import Dynamic
from antibackdoor.detection import Detection, flag_most_suspect
from antibackdoor.inspection._fit_progress import _Fit
from antibackdoor.training import CrossEntropy, PairedRows, Passes, ShuffledRows, Work

SMALL = {"backbone": "mlp", "random_state": 0}


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    rows = np.flatnonzero(y < 4)[:120]
    return X[rows], y[rows]


class Watcher:
    """Notes what is told of the work."""

    def __init__(self):
        self.told = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        pass

    def on_fit_work(self, estimator, context, *, done, left):
        self.told.append((context.task_name, done, left))


def watched(estimator, X, y, **given):
    watcher = Watcher()
    estimator.set_callbacks(watcher).fit(X, y, **given)
    return [(name, round(done, 6), round(left, 6)) for name, done, left in watcher.told]


class Slow(torch.nn.Module):
    """Takes so long a step that callbacks are told within an epoch."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(64, 4)

    def forward(self, x):
        time.sleep(0.06)
        return self.head(x.flatten(1))


class Early(LossRank):
    """May train three networks, and is content with one on half of the rows."""

    def _n_phases(self):
        return 3

    def _passes(self, n_rows, *, images=True, reviewed=False):
        return [Passes(3 * self.epochs, of=self, batch_size=32)]

    def _detect(self, run):
        rows = ShuffledRows(run.every_row[::2], 32)
        run.phase("early", run.new_network(), CrossEntropy(), epochs=self.epochs, batches=rows)
        return Detection.untested(flag_most_suspect(np.arange(len(run.X), dtype=float), 0.1))


# --- the work


def test_a_part_that_ends_early_takes_nothing_from_what_follows():
    work = Work(10)
    with work.part(6):
        with work.part(2):
            work.move(1, 1)
            assert (work.done, work.left) == (1, 9)
        assert work.left == 8
    assert (work.done, work.left) == (1, 4)


def test_a_part_that_takes_more_than_expected_takes_nothing_from_what_follows():
    work = Work(10)
    with work.part(6):
        for _ in range(2):
            with work.part(5):
                work.move(0, 5)
                work.move(5, 0)
        assert work.left == 4
    assert (work.done, work.left) == (10, 4)
    with work.part(7):
        work.move(0, 7)
        assert work.left == 7
    assert work.left == 0


def test_batches_know_their_rows():
    batches = ShuffledRows(torch.arange(10), 4)
    assert batches.n_rows == 10
    assert PairedRows(batches, torch.arange(10, 20), 2).n_rows == 10 + 3 * 2


def test_phases_weigh_as_much_as_their_epochs_and_rows(few):
    clf = ABLClassifier(detector=Early(epochs=4), cure=Retrain(), epochs=10, **SMALL)
    told = watched(clf, *few)
    first = {name: (done, left) for name, done, left in reversed(told)}
    # Four epochs on half of the rows; two more networks are expected. They are not trained: what is
    # left are the ten passes of the classifier, which trains on nine tenths of the rows.
    assert first == {"fit": (0, 22), "early": (0, 22), "finetune": (2, 10)}


def test_epochs_on_the_clean_rows_are_a_share_of_a_pass(few):
    clf = FinePruningClassifier(epochs=3, finetune_epochs=20, clean_share=0.1, **SMALL)
    assert watched(clf, *few)[0] == ("fit", 0, 3 + 20 * 0.1)


def test_the_search_tells_its_passes(few):
    told = watched(ABLClassifier(detector=PoisonSearch(epochs=2), epochs=3, **SMALL), *few)
    # Those of a search that finds poison, some 3.5 times its epochs, and its looks at all rows.
    assert told[0] == ("fit", 0, pytest.approx(3 + 2 * 3.48 + 8))
    done, left = told[-1][1:]
    assert done > 0 and 0 <= left <= 3


@pytest.mark.parametrize(("kind", "expected"), [(ABLClassifier, 2), (CBDClassifier, 2 + 20)])
def test_a_reviewed_list_takes_the_place_of_the_detector(kind, expected, few):
    suspects = np.arange(120) < 5
    told = watched(kind(epochs=2, **SMALL), *few, suspects=suspects)
    assert told[0] == ("fit", 0, expected)


def test_a_table_is_not_searched(few):
    X, y = few
    told = watched(ABLClassifier(epochs=2, **SMALL), X.reshape(len(X), -1), y)
    assert told[0][2] == 2 + LossRank().epochs


def test_steps_within_an_epoch_are_told(few):
    told = watched(UndefendedClassifier(backbone=Slow(), epochs=2, batch_size=10), *few)
    done = [done for name, done, _ in told if name == "train"]
    assert done == sorted(done) and len(done) >= 3
    assert any(0 < one < 1 for one in done)
    assert all(one + left == pytest.approx(2) for _, one, left in told)


def test_what_is_in_the_store_is_no_work(few, tmp_path):
    pytest.importorskip("filelock")
    clf = UndefendedClassifier(epochs=3, cache_dir=tmp_path, **SMALL).fit(*few)
    assert watched(clf, *few) == [("fit", 0, 3), ("train", 0, 0)]


# --- the callback


def test_the_fit_is_the_same(few, capsys):
    X, y = few
    clf = ABLClassifier(detector=LossRank(epochs=2), epochs=2, **SMALL)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    shown = clone(clf).set_callbacks(FitProgress()).fit(X, y)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert torch.get_rng_state().equal(before[1])
    plain = clf.fit(X, y)
    np.testing.assert_array_equal(shown.isolate_scores_, plain.isolate_scores_)
    np.testing.assert_array_equal(shown.predict_proba(X), plain.predict_proba(X))
    drawn = np.random.RandomState(0)
    UndefendedClassifier(epochs=1, backbone="mlp", random_state=drawn).set_callbacks(
        FitProgress()
    ).fit(X, y)
    undrawn = np.random.RandomState(0)
    UndefendedClassifier(epochs=1, backbone="mlp", random_state=undrawn).fit(X, y)
    assert drawn.randint(1000) == undrawn.randint(1000)


def test_the_fit_is_the_same_with_a_backbone_that_draws_from_global_generators(few, capsys):
    X, y = few

    def backbone(input_shape, n_classes):
        head = torch.nn.Linear(64, n_classes)
        with torch.no_grad():
            head.weight += np.random.rand() + random.random()
        return torch.nn.Sequential(torch.nn.Flatten(), head)

    def fit(*callbacks):
        np.random.seed(0)
        random.seed(0)
        clf = UndefendedClassifier(backbone=backbone, epochs=1, random_state=0)
        return clf.set_callbacks(*callbacks).fit(X, y).predict_proba(X)

    np.testing.assert_array_equal(fit(), fit(FitProgress()))


def test_the_time_left_heeds_what_the_steps_take(few, capsys):
    # A step takes the same time of 8 samples as of all.
    detector = LossRank(batch_size=8, epochs=2)
    clf = ABLClassifier(
        detector=detector, cure=Retrain(), backbone=Slow(), epochs=8, batch_size=128
    )
    clf.set_callbacks(FitProgress()).fit(*few)
    line = next(line for line in capsys.readouterr().err.splitlines() if "finetune" in line)
    # 8 steps of 0.06 s after 30 of them: by passes it would be four times what is done.
    assert 1 <= int(re.search(r"about (\d+) s left", line)[1]) <= 3


def test_passes_that_are_left_out_are_none_of_those_that_were_made():
    # Three passes of a detector, of 10 s each, and eight of the classifier, of 1 s each.
    fit = _Fit(None, None, timed=[(3, 10.0), (8, 1.0)])
    assert fit.weigh(0, 11) == (0, 38)
    assert fit.weigh(0.5, 10.5) == (5, 33)
    # The detector ends after one pass.
    assert fit.weigh(1, 8) == (10, 8)
    assert fit.weigh(5, 4) == (14, 4)
    # A phase that takes more than was expected.
    assert fit.weigh(10, 2) == (19, 2)
    plain = _Fit(None, None)
    assert [plain.weigh(0, 11), plain.weigh(1, 8), plain.weigh(5, 4)] == [(0, 11), (1, 8), (5, 4)]


def test_lines_where_there_is_no_terminal(few, capsys):
    clf = ABLClassifier(detector=Early(epochs=4), cure=Retrain(), epochs=10, **SMALL)
    clf.set_callbacks(FitProgress()).fit(*few)
    said = capsys.readouterr()
    assert not said.out
    lines = said.err.splitlines()
    assert lines[0].startswith("estimated time, from a few steps: about ")
    assert [line.split(", about")[0] for line in lines[1:-1]] == [
        "  0 %: phase 1, early, 4 epochs",
        " 17 %: phase 2, finetune, 10 epochs",
    ]
    assert lines[-1].startswith("100 %: done, after ")
    clf.set_callbacks(FitProgress(estimate=False)).fit(*few)
    assert "estimated" not in capsys.readouterr().err


@pytest.mark.parametrize("terminal", ["xterm", "dumb"])
def test_a_bar_where_there_is_a_terminal(terminal, few, capsys, monkeypatch):
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    UndefendedClassifier(epochs=2, **SMALL).set_callbacks(FitProgress()).fit(*few)
    said = capsys.readouterr().err
    assert ("\x1b[" in said) == (terminal == "xterm")
    assert "100 %" in said


def test_nothing_is_left_on_the_screen_by_a_fit_that_fails(few, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    clf = UndefendedClassifier(epochs=2, learning_rate=1e30, **SMALL).set_callbacks(FitProgress())
    for _ in range(2):
        with pytest.raises(FloatingPointError):
            clf.fit(*few)
    assert capsys.readouterr().err.count("\x1b[?25h") == 2  # the cursor is shown again


def test_a_fit_does_not_fail_for_want_of_an_estimate(digits, capsys):
    X, y = digits
    X, y = X[:600], y[:600].copy()
    y[6] = 11  # in no sample of rows from all over the data

    def backbone(input_shape, n_classes):
        if n_classes != 11:
            raise RuntimeError("eleven!")
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 11))

    clf = UndefendedClassifier(backbone=backbone, epochs=1).set_callbacks(FitProgress())
    assert len(clf.fit(X, y).classes_) == 11
    said = capsys.readouterr().err
    assert "no estimate of the time: RuntimeError: eleven!" in said
    assert "100 %" in said


def test_a_grid_search_shows_each_fit(few, capsys):
    clf = UndefendedClassifier(**SMALL).set_callbacks(FitProgress(estimate=False))
    GridSearchCV(clf, {"epochs": [1, 2]}, cv=2, refit=False).fit(*few)
    assert capsys.readouterr().err.count("100 %: done") == 4
    pickle.loads(pickle.dumps(clf)).fit(*few)


def test_an_attack_that_trains_shows_it_too(few, capsys):
    attack = Dynamic(surrogate="mlp", surrogate_epochs=1, generator_epochs=1, random_state=0)
    attack.set_callbacks(FitProgress()).fit(*few)
    said = capsys.readouterr().err
    assert "phase 1" in said and "100 %: done" in said and "estimated" not in said


def test_a_closed_stream_stops_nothing(few, monkeypatch, tmp_path):
    with (tmp_path / "err").open("w") as closed:
        pass
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        UndefendedClassifier(epochs=1, **SMALL).set_callbacks(FitProgress()).fit(*few)
