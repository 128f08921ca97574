"""Displays: what they show, and what they refuse."""

import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.callback import ScoringMonitor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from antibackdoor import ABLClassifier, Retrain, SpectralSignatures, UndefendedClassifier
from antibackdoor.attacks import BadNets
from antibackdoor.inspection import (
    HistoryDisplay,
    IsolationDisplay,
    LossRecorder,
    SuspectsDisplay,
    TradeoffDisplay,
    TriggerDisplay,
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


class Flagging(ClassifierMixin, BaseEstimator):
    """Suspects rows by their number: the last is the most suspect."""

    def __init__(self, n_flagged=3, layout="auto", image_shape=None):
        self.n_flagged = n_flagged
        self.layout = layout
        self.image_shape = image_shape

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.input_shape_ = X.shape[1:]
        self.isolate_scores_ = np.arange(len(X)) / len(X)
        self.isolate_threshold_ = self.isolate_scores_[len(X) - self.n_flagged - 1]
        self.isolate_mask_ = self.isolate_scores_ > self.isolate_threshold_
        self.isolate_ = np.flatnonzero(self.isolate_mask_)[::-1]
        self.isolate_classes_ = np.unique(y[self.isolate_mask_])
        return self


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:60], y[:60]


@pytest.fixture(scope="module")
def flagging(few):
    return Flagging().fit(*few)


# --- IsolationDisplay


def test_isolation_counts_every_row_once():
    scores = np.array([0.0, 0.1, 0.5, 0.5, 0.5 + 1e-9, 1.0])
    display = IsolationDisplay.from_predictions(scores, 0.5)
    others, flagged = display.ax_.containers
    assert sum(bar.get_height() for bar in others) == 4  # a score at the cut is not flagged
    assert sum(bar.get_height() for bar in flagged) == 2
    # No bar holds rows of both.
    assert all(
        a.get_height() == 0 or b.get_height() == 0 for a, b in zip(others, flagged, strict=True)
    )
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["other rows (4)", "flagged rows (2)", "flagged above 0.5"]
    assert display.figure_ is display.ax_.figure


def test_isolation_with_known_poison_and_own_axes(flagging):
    ax = plt.figure().add_subplot()
    poison = np.arange(60) < 5
    display = IsolationDisplay.from_estimator(flagging, poison_mask=poison, ax=ax, log=False)
    assert display.ax_ is ax
    assert ax.get_yscale() == "linear"
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[:2] == ["clean rows (55)", "poisoned rows (5)"]


@pytest.mark.parametrize("threshold", [np.inf, -np.inf, 7.0])
@pytest.mark.parametrize("scores", [np.zeros(4), np.array([-1e300, 0, 1e-300, 1e300]) / 4])
def test_isolation_of_any_scores(scores, threshold):
    display = IsolationDisplay.from_predictions(scores, threshold)
    others, flagged = display.ax_.containers
    assert sum(bar.get_height() for bar in others) + sum(
        bar.get_height() for bar in flagged
    ) == len(scores)
    assert len(display.ax_.lines) == np.isfinite(threshold)


@pytest.mark.parametrize(
    ("scores", "threshold", "mask", "error", "message"),
    [
        ([], 0.5, None, ValueError, "scores is empty"),
        ([0.1, np.nan], 0.5, None, ValueError, "scores"),
        ([[0.1], [0.2]] * 2 + [[1, 2]], 0.5, None, ValueError, "scores"),
        ([0.1, 0.2], np.nan, None, ValueError, "threshold"),
        ([0.1, 0.2], "much", None, ValueError, "threshold"),
        ([0.1, 0.2], 0.5, [0, 1], TypeError, "poison_mask"),
        ([0.1, 0.2], 0.5, [True], ValueError, "poison_mask"),
    ],
)
def test_isolation_refuses(scores, threshold, mask, error, message):
    with pytest.raises(error, match=message):
        IsolationDisplay.from_predictions(scores, threshold, poison_mask=mask)


# --- TradeoffDisplay


class Constant(ClassifierMixin, BaseEstimator):
    def __init__(self, says=0):
        self.says = says

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.says)


def test_tradeoff_of_estimators(few):
    X, y = few
    named = {"zero": Constant(0).fit(X, y), "one": Constant(1).fit(X, y)}
    display = TradeoffDisplay.from_estimator(named, X, y, attack="badnets", target_label=0)
    np.testing.assert_allclose(display.ca, [np.mean(y == 0), np.mean(y == 1)])
    np.testing.assert_array_equal(display.asr, [1, 0])
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["zero", "one"]
    first = display.ax_.containers[0].lines[0]
    np.testing.assert_allclose(first.get_xydata(), [[100 * np.mean(y == 0), 100]])
    alone = TradeoffDisplay.from_estimator(named["one"], X, y, attack=BadNets(target_label=0))
    assert alone.names == ["Constant"]
    with pytest.raises(ValueError, match="estimator is empty"):
        TradeoffDisplay.from_estimator({}, X, y, attack="badnets")


def test_tradeoff_of_predictions():
    display = TradeoffDisplay.from_predictions(
        [0, 1, 2, 2], [0, 1, 2, 1], [0, 0, 0, 2], target_label=0, name="mine"
    )
    assert (display.ca, display.asr) == (0.75, pytest.approx(2 / 3))
    assert display.names == ["mine"]


def test_tradeoff_of_cv_results():
    results = {
        "mean_test_ca": [0.9, 0.8, 0.7],
        "std_test_ca": [0.01, np.nan, 0.0],
        "mean_test_neg_asr": [-0.9, -0.1, -0.0],
        "param_gamma": np.ma.array([0.1, 0.5, 0.5]),
    }
    display = TradeoffDisplay.from_cv_results(results, param="gamma", best_index=1)
    np.testing.assert_array_equal(display.asr, [0.9, 0.1, 0.0])
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert sorted(texts) == ["chosen", "gamma=0.1", "gamma=0.5"]
    ring = next(line for line in display.ax_.lines if line.get_label() == "chosen")
    np.testing.assert_allclose(ring.get_xydata(), [[80, 10]])
    assert TradeoffDisplay.from_cv_results(results).ax_.get_legend() is None
    with pytest.raises(ValueError, match="mean_test_asr.*neg_asr"):
        TradeoffDisplay.from_cv_results(results, asr="asr")
    with pytest.raises(ValueError, match="param_epochs.*gamma"):
        TradeoffDisplay.from_cv_results(results, param="epochs")
    with pytest.raises(ValueError, match="best_index=3"):
        TradeoffDisplay.from_cv_results(results, best_index=3)


# --- TriggerDisplay


@pytest.mark.parametrize("kind", ["uint8", "float", "channels first", "flat"])
def test_trigger_is_where_the_attack_puts_it(few, kind):
    X = {
        "uint8": few[0],
        "float": few[0] / 255.0 * 3 - 1,
        "channels first": np.repeat(few[0][:, None], 3, axis=1),
        "flat": few[0].reshape(60, 64),
    }[kind]
    attack = BadNets(image_shape=(8, 8) if kind == "flat" else None).fit(X)
    display = TriggerDisplay.from_estimator(attack, X, n_images=2)
    assert display.difference.shape == ((2, 8, 8, 3) if kind == "channels first" else (2, 8, 8))
    moved = display.difference.reshape(2, 8, 8, -1).max(axis=(0, 3)) > 0
    assert moved[5:, 5:].any()
    assert not moved[:5].any() and not moved[:, :5].any()
    assert display.difference.max() == 255  # what is largest is white
    assert len(display.ax_.images) == 6
    if kind == "uint8":
        np.testing.assert_array_equal(display.clean, X[:2])
        np.testing.assert_array_equal(display.triggered, attack.transform(X[:2]))


def test_trigger_of_predictions(few):
    X, _ = few
    faint = X.copy()
    faint[:, 0, 0] += 1
    display = TriggerDisplay.from_predictions(X, faint, n_images=1)
    assert display.difference[0, 0, 0] == 255 and display.difference.sum() == 255
    heads = [text.get_text() for text in display.ax_.texts]
    assert heads == ["clean", "triggered", "difference"]
    same = TriggerDisplay.from_predictions(X, X)
    assert same.difference.max() == 0
    with pytest.raises(ValueError, match=r"X has shape \(60, 8, 8\), but X_triggered"):
        TriggerDisplay.from_predictions(X, X[:4])
    with pytest.raises(ValueError, match="wanted images"):
        TriggerDisplay.from_predictions(X[0], X[0])
    with pytest.raises(ValueError, match="X is empty"):
        TriggerDisplay.from_predictions(X[:0], X[:0])
    with pytest.raises(ValueError, match="X holds NaN"):
        TriggerDisplay.from_predictions(X * np.nan, X * 1.0)
    for wrong, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="n_images"):
            TriggerDisplay.from_predictions(X, X, n_images=wrong)


# --- SuspectsDisplay


def test_suspects_most_suspect_first(few, flagging):
    X, y = few
    display = SuspectsDisplay.from_estimator(flagging, X, y, max_images=2)
    np.testing.assert_array_equal(display.rows, [59, 58])
    np.testing.assert_array_equal(display.images, X[[59, 58]])
    np.testing.assert_array_equal(display.labels, y[[59, 58]])
    assert display.flagged
    titles = [text.get_text() for text in display.ax_.texts]
    assert titles == [f"{y[59]} (59)", f"{y[58]} (58)"]


def test_suspects_where_nothing_is_flagged(few):
    X, y = few
    nothing = Flagging(0).fit(X, y)
    display = SuspectsDisplay.from_estimator(nothing, X, y, max_images=5)
    assert not display.flagged
    np.testing.assert_array_equal(display.rows, [59, 58, 57, 56, 55])
    assert display.ax_.get_title().startswith("Nothing is flagged.")
    nothing.isolate_scores_ = np.zeros(60)
    display = SuspectsDisplay.from_estimator(nothing, X, y)
    assert len(display.rows) == len(display.ax_.images) == 0
    assert "no row is more suspect" in display.ax_.get_title()


def test_suspects_show_labels_as_they_are(few):
    X, y = few
    names = np.array(["$x_1$", r"$\frac{", "ゼロ"])[y % 3]
    display = SuspectsDisplay.from_estimator(Flagging().fit(X, names), X, names)
    with plt.rc_context({"font.family": "DejaVu Sans"}), pytest.warns(UserWarning, match="Glyph"):
        display.figure_.canvas.draw()  # no mathematics is parsed, and an odd sign is but missing
    assert {text.get_text().split(" ")[0] for text in display.ax_.texts} <= set(names)


def test_suspects_refuse(few, flagging):
    X, y = few
    with pytest.raises(NotFittedError):
        SuspectsDisplay.from_estimator(Flagging(), X, y)
    with pytest.raises(NotFittedError):
        SuspectsDisplay.from_estimator(ABLClassifier(), X, y)
    plain = LogisticRegression(max_iter=5, tol=1).fit(X.reshape(60, -1) / 255, y)
    with pytest.raises(TypeError, match="estimator is a LogisticRegression.*isolate_"):
        SuspectsDisplay.from_estimator(plain, X, y)
    with pytest.raises(TypeError, match="estimator"):
        SuspectsDisplay.from_estimator("abl", X, y)
    with pytest.raises(ValueError, match="X has 59 rows.*60"):
        SuspectsDisplay.from_estimator(flagging, X[1:], y)
    with pytest.raises(ValueError, match="y has 59 rows.*60"):
        SuspectsDisplay.from_estimator(flagging, X, y[1:])
    with pytest.raises(ValueError, match=r"rows of shape \(8, 7\)"):
        SuspectsDisplay.from_estimator(flagging, X[:, :, 1:], y)
    with pytest.raises(ValueError, match="y gives the flagged rows the labels"):
        SuspectsDisplay.from_estimator(flagging, X, (y + 1) % 10)
    with pytest.raises(ValueError, match="n_columns=0"):
        SuspectsDisplay.from_estimator(flagging, X, y).plot(n_columns=0)
    table = Flagging().fit(X.reshape(60, -1), y)
    with pytest.raises(ValueError, match="a table; wanted images"):
        SuspectsDisplay.from_estimator(table, X.reshape(60, -1), y)


# --- HistoryDisplay and LossRecorder


@pytest.fixture(scope="module")
def watched(few):
    """A classifier of two phases, flagging some rows, and the callbacks that watched its fit."""
    X, y = few

    def score(estimator, X, y):
        right = float(np.mean(estimator.predict(X) == y))
        return {"ca": right, "neg_asr": right - 1, "neg_log_loss": -2 * right}

    monitor, recorder = ScoringMonitor(scoring=score), LossRecorder()
    classifier = ABLClassifier(
        detector=SpectralSignatures(epochs=3, batch_size=16),
        cure=Retrain(),
        epochs=2,
        backbone="small-cnn",
        batch_size=16,
        random_state=0,
    )
    return classifier.set_callbacks(monitor, recorder).fit(X, y), monitor, recorder


def test_history(watched):
    classifier, monitor, recorder = watched
    assert classifier.isolate_mask_.any()
    display = HistoryDisplay.from_estimator(classifier, monitor=monitor, recorder=recorder)
    assert list(display.phases) == ["train"] * 3 + ["finetune"] * 2
    assert list(display.starts) == [0, 3]
    assert list(display.rates) == ["accuracy on the training labels", "ca", "asr"]
    np.testing.assert_allclose(display.rates["asr"], 1 - display.rates["ca"])
    np.testing.assert_allclose(display.losses["log_loss"], 2 * display.rates["ca"])
    logged = [row["ca"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    np.testing.assert_array_equal(display.rates["ca"], logged)
    for name, mask in (("flagged", classifier.isolate_mask_), ("other", ~classifier.isolate_mask_)):
        means = [losses[mask].mean() for losses in recorder.losses_]
        np.testing.assert_allclose(display.losses[f"loss of {name} rows"], means, rtol=1e-6)
    above, below = display.ax_
    curve = next(line for line in above.lines if line.get_label() == "ca")
    x, drawn = curve.get_data()
    np.testing.assert_array_equal(x, [0, 1, 2, np.nan, 3, 4])  # no line from phase to phase
    np.testing.assert_allclose(drawn[:3], 100 * display.rates["ca"][:3])
    assert [text.get_text() for text in above.texts] == ["train", "finetune"]
    assert below.get_ylabel() == "loss, nats"


def test_recorded_losses(few, watched):
    X, y = few
    classifier, _, recorder = watched
    assert recorder.phases_ == [(0, "train")] * 3 + [(1, "finetune")] * 2
    mean = log_loss(y, classifier.predict_proba(X), labels=classifier.classes_)
    assert recorder.losses_[-1].shape == (60,)
    assert recorder.losses_[-1].mean() == pytest.approx(mean, rel=1e-4)


def test_history_of_a_fit_that_went_on(few, tmp_path):
    """Callbacks see the epochs that were not kept only."""
    X, y = few
    settings = {"backbone": "small-cnn", "random_state": 0, "cache_dir": tmp_path}
    whole = LossRecorder()
    first = UndefendedClassifier(epochs=3, **settings).set_callbacks(Stop(after=1))
    with pytest.raises(KeyboardInterrupt):
        first.fit(X, y)
    again = UndefendedClassifier(epochs=3, **settings).set_callbacks(whole).fit(X, y)
    display = HistoryDisplay.from_estimator(again, recorder=whole)
    seen = np.isfinite(display.losses["loss of other rows"])
    assert 0 < len(whole.losses_) < 3
    assert seen.tolist() == [False] * (3 - len(whole.losses_)) + [True] * len(whole.losses_)


class Stop:
    """Stops the process, as Ctrl-C would, when the next epoch begins."""

    def __init__(self, after):
        self.left = after

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch":
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1

    def on_fit_task_end(self, estimator, context):
        return False


def test_history_refuses(few, flagging, watched):
    X, y = few
    classifier, monitor, recorder = watched
    with pytest.raises(NotFittedError):
        HistoryDisplay.from_estimator(ABLClassifier())
    with pytest.raises(TypeError, match="no history_"):
        HistoryDisplay.from_estimator(flagging)
    with pytest.raises(ValueError, match="recorder has recorded nothing"):
        HistoryDisplay.from_estimator(classifier, recorder=LossRecorder())
    with pytest.raises(ValueError, match="monitor"):
        HistoryDisplay.from_estimator(classifier, monitor=ScoringMonitor(scoring="accuracy"))
    with pytest.raises(ValueError, match="ax holds 1 axes"):
        HistoryDisplay.from_estimator(classifier, ax=plt.figure().add_subplot())
    other = UndefendedClassifier(backbone="small-cnn", epochs=1, random_state=0).fit(X, y)
    for callbacks in ({"monitor": monitor}, {"recorder": recorder}):
        with pytest.raises(ValueError, match="wanted the callback that watched its fit"):
            HistoryDisplay.from_estimator(other, **callbacks)
    fewer = UndefendedClassifier(backbone="small-cnn", epochs=1).fit(X[:50], y[:50])
    with pytest.raises(ValueError, match="recorded 60 rows"):
        HistoryDisplay.from_estimator(fewer, recorder=recorder)


# --- without matplotlib


def test_a_missing_matplotlib_is_named(few, flagging, monkeypatch):
    X, y = few
    shown = IsolationDisplay.from_estimator(flagging)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    calls = [
        shown.plot,
        lambda: IsolationDisplay.from_estimator(flagging),
        lambda: SuspectsDisplay.from_estimator(flagging, X, y),
        lambda: TriggerDisplay.from_estimator("badnets", X),
        lambda: TradeoffDisplay(ca=[1], asr=[0]).plot(),
        lambda: HistoryDisplay.from_estimator(flagging),
    ]
    for call in calls:
        with pytest.raises(ImportError, match=r"'\.\[plot\]'"):
            call()
