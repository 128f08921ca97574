"""scikit-learn's callbacks: phases and epochs are the tasks."""

import numpy as np
import pytest
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from antibackdoor import (
    ABLClassifier,
    PoisonSearch,
    Retrain,
    UndefendedClassifier,
    make_poisoned,
)

#: Phases and their epochs under the settings of `make_tiny`.
PHASES = {
    "UndefendedClassifier": [("train", 2)],
    "ABLClassifier": [("isolate", 2), ("finetune", 2), ("unlearn", 1), ("recover", 1)],
    "CBDClassifier": [("isolate", 2), ("clean", 2)],
    "FinePruningClassifier": [("train", 2), ("finetune", 2)],
}


# What is around a fit sees a tree of tasks, whichever classifier's: one of many phases is enough.
PHASED = pytest.mark.parametrize("make_tiny", ["ABLClassifier"], indirect=True)


@pytest.fixture(scope="module")
def few(digits):
    """Images of four digits, uint8 (60, 8, 8), and their labels."""
    X, y = digits
    rows = np.flatnonzero(y < 4)[:60]
    return X[rows], y[rows]


def phases_of(estimator):
    return PHASES[type(estimator).__name__]


def n_tasks(estimator):
    """The root, the phases and the epochs."""
    return 1 + sum(1 + epochs for _, epochs in phases_of(estimator))


class Recorder:
    """Notes what is called, and where in the tree of tasks."""

    def __init__(self, stop_at=None, fail_at=None):
        self.stop_at = stop_at
        self.fail_at = fail_at
        self.calls = []

    def setup(self, estimator, context):
        self.calls.append(("setup", self.path(context)))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", self.path(context)))

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", self.path(context)))

    def on_fit_task_end(self, estimator, context):
        path = self.path(context)
        self.calls.append(("end", path))
        if path == self.fail_at:
            raise RuntimeError("asked to fail")
        return path == self.stop_at

    def path(self, context):
        path = []
        while context is not None:
            path.insert(0, (context.task_name, context.task_id))
            context = context.parent
        return tuple(path)


class Keeper:
    """Keeps what it is given at the end of each task."""

    def __init__(self):
        self.kept = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.kept.append(
            (context.task_name, X, y, fitted_estimator, fitted_estimator.predict_proba(X))
        )


def assert_same_fit(one, other):
    ours, theirs = one.module_.state_dict(), other.module_.state_dict()
    assert all(ours[name].equal(tensor) for name, tensor in theirs.items())
    np.testing.assert_array_equal(one.isolate_scores_, other.isolate_scores_)
    np.testing.assert_array_equal(one.isolate_, other.isolate_)


# --- the tree of tasks


def test_tree(make_tiny, few):
    recorder = Recorder()
    estimator = make_tiny().set_callbacks(recorder).fit(*few)
    root = (("fit", 0),)
    expected = [("setup", root), ("begin", root)]
    for number, (phase, epochs) in enumerate(phases_of(estimator)):
        phase = (*root, (phase, number))
        expected.append(("begin", phase))
        for epoch in range(epochs):
            expected += [(call, (*phase, ("epoch", epoch))) for call in ("begin", "end")]
        expected.append(("end", phase))
    expected += [("end", root), ("teardown", root)]
    assert recorder.calls == expected


def test_history_has_the_same_phases_and_epochs(make_tiny, few):
    estimator = make_tiny().fit(*few)
    assert [(row["phase"], row["epoch"]) for row in estimator.history_] == [
        (phase, epoch) for phase, epochs in phases_of(estimator) for epoch in range(epochs)
    ]


def test_declared_sizes(make_tiny, few):
    sizes = {}

    class Sizes(Recorder):
        def on_fit_task_begin(self, estimator, context):
            sizes[context.task_name] = context.max_subtasks

    estimator = make_tiny().set_callbacks(Sizes()).fit(*few)
    phases = phases_of(estimator)
    assert sizes == {"fit": len(phases), **dict(phases), "epoch": 0}


def test_hooks_get_the_data_and_an_estimator_that_predicts(make_tiny, few):
    X, y = few
    keeper = Keeper()
    estimator = make_tiny().set_callbacks(keeper).fit(X, y)
    assert len(keeper.kept) == n_tasks(estimator)
    for _, X_seen, y_seen, fitted, probabilities in keeper.kept:
        np.testing.assert_array_equal(X_seen, X)
        np.testing.assert_array_equal(y_seen, y)
        np.testing.assert_allclose(probabilities.sum(1), 1)
        # Training that goes on leaves what a callback has kept as it is.
        np.testing.assert_array_equal(fitted.predict_proba(X), probabilities)
    name, *_, last = keeper.kept[-1]
    assert name == "fit"
    np.testing.assert_array_equal(last, estimator.predict_proba(X))
    # It is the network of that moment: the first epoch is not yet the last.
    assert (keeper.kept[0][-1] != last).any()


# --- stopping and failing


def test_true_ends_the_phase(make_tiny, few):
    name, epochs = phases_of(make_tiny())[0]
    stop = Recorder(stop_at=(("fit", 0), (name, 0), ("epoch", 0)))
    estimator = make_tiny().set_callbacks(stop).fit(*few)
    assert epochs > 1
    counted = [row["phase"] for row in estimator.history_]
    assert counted.count(name) == 1
    for other, n_epochs in phases_of(estimator)[1:]:
        assert counted.count(other) == n_epochs
    # The phase itself ends as ever, and what follows runs.
    assert ("end", (("fit", 0), (name, 0))) in stop.calls
    assert stop.calls[-1] == ("teardown", (("fit", 0),))
    assert estimator.predict(few[0]).shape == (60,)


def test_teardown_after_a_failing_callback(make_tiny, few):
    name, _ = phases_of(make_tiny())[-1]
    failing = Recorder(fail_at=(("fit", 0), (name, len(phases_of(make_tiny())) - 1)))
    estimator = make_tiny().set_callbacks(failing)
    before = dict(vars(estimator))
    with pytest.raises(RuntimeError, match="asked to fail"):
        estimator.fit(*few)
    assert failing.calls[-1] == ("teardown", (("fit", 0),))
    assert vars(estimator) == before


def test_teardown_after_training_that_diverges(make_tiny, few):
    recorder = Recorder()
    estimator = make_tiny(learning_rate=1e38).set_callbacks(recorder)
    before = dict(vars(estimator))
    with pytest.raises(FloatingPointError):
        estimator.fit(*few)
    assert recorder.calls.count(("setup", (("fit", 0),))) == 1
    assert recorder.calls.count(("teardown", (("fit", 0),))) == 1
    assert recorder.calls[-1][0] == "teardown"
    assert vars(estimator) == before
    # The same callbacks serve the next fit.
    recorder.calls.clear()
    estimator.set_params(learning_rate=0.1).fit(*few)
    assert len(recorder.calls) == 2 + 2 * n_tasks(estimator)


@pytest.mark.parametrize(
    "bad", [{"X": np.full((60, 8, 8), np.nan)}, {"augment": "crop", "X": np.zeros((60, 64))}]
)
def test_bad_input_calls_nobody(make_tiny, few, bad):
    recorder = Recorder()
    bad = dict(bad)
    X = bad.pop("X")
    with pytest.raises(ValueError, match=r"\b(X|augment)\b"):
        make_tiny(**bad).set_callbacks(recorder).fit(X, few[1])
    assert recorder.calls == []


# --- no callback changes a result


def test_callbacks_change_no_result(make_tiny, few, capsys):
    X, y = few
    plain = make_tiny().fit(X, y)
    watched = make_tiny().set_callbacks(
        ScoringMonitor(scoring="accuracy"), ProgressBar(), Recorder(), Keeper()
    )
    assert_same_fit(watched.fit(X, y), plain)
    np.testing.assert_array_equal(watched.predict_proba(X), plain.predict_proba(X))
    # Nor does a fit before, of another network.
    X_flat = X.reshape(len(X), -1)
    watched.set_params(backbone="mlp", image_shape=(8, 8))
    again = make_tiny(backbone="mlp", image_shape=(8, 8)).fit(X_flat, y)
    assert_same_fit(watched.fit(X_flat, y), again)


# --- ScoringMonitor


def test_scoring_monitor(make_tiny, few):
    X, y = few
    monitor = ScoringMonitor(scoring="accuracy")
    estimator = make_tiny().set_callbacks(monitor).fit(X, y)
    rows = monitor.get_logs().data
    assert len(rows) == n_tasks(estimator)
    names = [row["task_name"] for row in rows]
    for phase, _ in phases_of(estimator):
        assert names.count(phase) == 1
    assert names.count("fit") == 1
    assert names.count("epoch") == len(estimator.history_)
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    assert {row["estimator_name"] for row in rows} == {type(estimator).__name__}
    (whole,) = (row for row in rows if row["task_name"] == "fit")
    assert whole["accuracy"] == estimator.score(X, y)
    # Each phase has as many epochs below it, and its score is that of its last one.
    for number, (phase, epochs) in enumerate(phases_of(estimator)):
        (above,) = (row for row in rows if row["task_name"] == phase)
        assert above["task_id_path"] == (0, number)
        below = [row for row in rows if row["parent_task_id_path"] == (0, number)]
        assert [row["task_id"] for row in below] == list(range(epochs))
        assert above["accuracy"] == below[-1]["accuracy"]


def test_scoring_monitor_sees_the_epochs_improve(few):
    X, y = few
    monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    estimator = UndefendedClassifier(epochs=15, backbone="mlp", batch_size=16, random_state=0)
    estimator.set_callbacks(monitor).fit(X, y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(rows) == 15
    assert rows[-1]["neg_log_loss"] > rows[0]["neg_log_loss"]
    assert rows[-1]["accuracy"] == 1


def test_what_a_search_trains_on_classes_of_its_own_is_scored_by_those_of_the_data(digits):
    """Networks that complete the poison have a class for it; half-way, those of the data alone."""
    X, y = digits
    rows = np.concatenate([np.flatnonzero(y == label)[:80] for label in range(4)])
    X_bad, y_bad, _ = make_poisoned(X[rows], y[rows], attack="badnets", random_state=0)

    def make():
        search = PoisonSearch(epochs=5, backbone="mlp", random_state=0)
        settings = {"backbone": "mlp", "batch_size": 64, "random_state": 0}
        return ABLClassifier(detector=search, cure=Retrain(), epochs=1, **settings)

    monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    watched = make().set_callbacks(monitor).fit(X_bad, y_bad)
    assert len(watched.isolate_) > 0
    scored = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(scored) == len(watched.history_)
    assert all(0 <= row["accuracy"] <= 1 for row in scored)
    assert_same_fit(watched, make().fit(X_bad, y_bad))


@PHASED
def test_scoring_monitor_in_grid_search(make_tiny, few):
    X, y = few
    monitor = ScoringMonitor(scoring="accuracy")
    estimator = make_tiny().set_callbacks(monitor)
    search = GridSearchCV(estimator, {"learning_rate": [0.01, 0.1]}, cv=2).fit(X, y)
    logs = monitor.get_logs(select="all")
    assert len(logs) == 1  # one run: that of the search
    assert logs[0].estimator_name == "GridSearchCV"
    n_fits = 2 * 2 + 1
    rows = logs[0].data
    assert len(rows) == n_fits * n_tasks(estimator)
    names = [row["task_name"] for row in rows]
    assert names.count("epoch") == n_fits * sum(epochs for _, epochs in phases_of(estimator))
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    assert search.best_estimator_.score(X, y) in {row["accuracy"] for row in rows}


# --- ProgressBar


def test_progress_bar(make_tiny, few, capsys):
    estimator = make_tiny().set_callbacks(ProgressBar()).fit(*few)
    lines = capsys.readouterr().out.splitlines()
    name = type(estimator).__name__
    expected = [f"{name} - fit", *(f"{name} - {phase}" for phase, _ in phases_of(estimator))]
    for task in expected:
        (line,) = (line for line in lines if task in line)
        assert "100%" in line
    assert len(lines) == len(expected)


@PHASED
def test_progress_bar_in_grid_search(make_tiny, few, capsys):
    search = GridSearchCV(make_tiny(), {"learning_rate": [0.01, 0.1]}, cv=2)
    search.set_callbacks(ProgressBar()).fit(*few)
    out = capsys.readouterr().out
    name = type(search.estimator).__name__
    n_fits = 2 * 2 + 1
    assert out.count(f"{name} - fit") == n_fits
    for phase, _ in phases_of(search.estimator):
        assert out.count(f"{name} - {phase}") == n_fits
    assert " 0%" not in out


@PHASED
def test_progress_bar_of_a_pipeline(make_tiny, few, capsys):
    X, y = few
    pipeline = make_pipeline(StandardScaler(), make_tiny(image_shape=(8, 8)))
    pipeline.set_callbacks(ProgressBar()).fit(X.reshape(len(X), -1), y)
    out = capsys.readouterr().out
    name = type(pipeline[-1]).__name__
    for task in ("fit", *(phase for phase, _ in phases_of(pipeline[-1]))):
        assert f"{name} - {task}" in out
    assert "100%" in out and " 0%" not in out
