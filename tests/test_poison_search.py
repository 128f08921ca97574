"""PoisonSearch on digits: its list, its warnings, and the same list alone as in a classifier."""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib import resources
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.callback import ProgressBar

from antibackdoor import ABLClassifier, CBDClassifier, LossRank, PoisonSearch, make_poisoned
from antibackdoor.detection import Detection, flag_nothing
from antibackdoor.metrics import isolation_precision, isolation_recall

NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


@pytest.fixture(scope="module")
def clean(digits):
    """Of five classes a hundred rows each."""
    return of_classes(digits, range(5), n_rows=100)


@pytest.fixture(scope="module")
def poisoned(clean):
    return make_poisoned(*clean, attack="badnets", poison_rate=0.1, random_state=0)


@pytest.fixture(scope="module")
def few(digits):
    """Of four classes forty rows each, poisoned."""
    X, y = of_classes(digits, range(4), n_rows=40)
    X_bad, y_bad, _ = make_poisoned(X, y, attack="badnets", poison_rate=0.1, random_state=0)
    return X_bad, y_bad


@pytest.fixture(scope="module")
def resampled(poisoned):
    """A search, and what it leaves."""
    X_bad, y_bad, _ = poisoned
    search = thorough()
    return search, *search.fit_resample(X_bad, pd.Series(NAMES[y_bad]))


@pytest.fixture(scope="module")
def found(resampled):
    return resampled[0]


@pytest.fixture(scope="module")
def alone(few):
    return quick().fit(*few)


def of_classes(digits, labels, n_rows=30):
    """The first rows of some classes."""
    X, y = digits
    rows = np.concatenate([np.flatnonzero(y == label)[:n_rows] for label in labels])
    return X[rows], y[rows]


def thorough():
    return PoisonSearch(epochs=8, backbone="mlp", random_state=1)


@pytest.fixture
def trains_once(monkeypatch):
    """In place of the search a network that is trained on all rows."""

    def train(samples, labels, *, probe, **settings):
        probe(np.ones(len(labels), dtype=bool), 1.0)
        return replace(Detection.untested(flag_nothing(len(labels))), p_value=1.0)

    monkeypatch.setattr("antibackdoor.detection._poison_search.find_poison", train)


def phases(estimator):
    return list(dict.fromkeys(row["phase"] for row in estimator.history_))


def quick(**changes):
    return PoisonSearch(**{"epochs": 2, "backbone": "mlp", "random_state": 0, **changes})


def test_most_poison_in_digits_is_flagged(poisoned, found):
    _, _, poison_mask = poisoned
    assert found.isolate_classes_.tolist() == ["zero"]
    assert found.isolate_classes_.dtype == found.classes_.dtype
    assert found.isolate_pvalue_ < found.false_alarm_rate
    assert isolation_recall(poison_mask, found.isolate_mask_) > 0.9
    assert isolation_precision(poison_mask, found.isolate_mask_) > 0.9
    # Most suspect first, and the same as the mask.
    np.testing.assert_array_equal(np.sort(found.isolate_), np.flatnonzero(found.isolate_mask_))
    assert (np.diff(found.isolate_scores_[found.isolate_]) <= 0).all()
    assert phases(found) == ["search", "probe"]


def test_signs_are_in_the_order_of_the_classes(found):
    target = found.classes_.tolist().index("zero")
    assert set(found.isolate_signs_) == {"diversity", "foreignness", "transplant", "relabelling"}
    assert all(sign.shape == found.classes_.shape for sign in found.isolate_signs_.values())
    assert np.nanargmax(found.isolate_signs_["transplant"]) == target


def test_the_page_of_the_report_shows_each_sign(found):
    page = resources.files("antibackdoor.inspection").joinpath("report.html").read_text()
    for sign in found.isolate_signs_:
        assert f"<b>{sign.replace('_', ' ').capitalize()}</b>" in page


def test_nothing_is_flagged_in_clean_digits(clean):
    search = thorough().fit(*clean)
    assert len(search.isolate_) == 0
    assert len(search.isolate_classes_) == 0
    assert not search.isolate_mask_.any()
    assert search.isolate_pvalue_ > search.false_alarm_rate


def test_it_is_no_classifier(found):
    assert not hasattr(found, "predict")
    assert not hasattr(found, "module_")


# ------------------------------------------------------------------- alone and inside a classifier


@pytest.mark.parametrize(
    ("classifier", "inside"),
    [(ABLClassifier, None), (CBDClassifier, 0)],
    ids=["taken over", "its own"],
)
def test_the_list_is_the_same_alone_as_inside_a_classifier(few, alone, classifier, inside):
    # With its own random_state it does not matter what the classifier's is.
    clf = classifier(
        detector=quick(random_state=inside),
        epochs=1,
        backbone="mlp",
        random_state=0 if inside is None else 7,
    ).fit(*few)
    np.testing.assert_array_equal(alone.isolate_pvalue_, clf.isolate_pvalue_)
    for sign, values in alone.isolate_signs_.items():
        np.testing.assert_array_equal(values, clf.isolate_signs_[sign])
    # A classifier may flag doubtful rows beside.
    assert set(alone.isolate_) <= set(clf.isolate_)
    n_searched = len(alone.history_)
    for one, other in zip(alone.history_, clf.history_[:n_searched], strict=True):
        assert (one["phase"], one["loss"]) == (other["phase"], other["loss"])
    assert [row["phase"] for row in clf.history_[n_searched:]] == [clf.history_[-1]["phase"]]


def test_what_a_search_leaves_can_be_trained_on(poisoned, resampled):
    X_bad, y_bad, _ = poisoned
    search, X_kept, y_kept = resampled
    kept = ~search.isolate_mask_
    assert kept.any()
    assert not kept.all()
    np.testing.assert_array_equal(X_kept, X_bad[kept])
    assert X_kept.dtype == np.uint8
    assert isinstance(y_kept, pd.Series)
    assert y_kept.tolist() == NAMES[y_bad][kept].tolist()


def test_global_randomness_is_left_as_it_was(few, alone):
    torch.manual_seed(5)
    again = quick().fit(*few)
    np.testing.assert_array_equal(again.isolate_scores_, alone.isolate_scores_)
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 3},
        {"backbone": "small-cnn"},
        {"batch_size": 4},
        {"learning_rate": 0.03},
        {"momentum": 0.5},
        {"weight_decay": 0.01},
        {"random_state": 1},
    ],
    ids=str,
)
def test_every_setting_has_an_effect(few, trains_once, change):
    one, other = ([row["loss"] for row in quick(**c).fit(*few).history_] for c in ({}, change))
    assert one != other


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("false_alarm_rate", 0),
        ("false_alarm_rate", 1),
        ("epochs", 0),
        ("epochs", 1.5),
        ("batch_size", 0),
    ],
)
def test_bad_parameters_are_refused_by_name(argument, value):
    search = PoisonSearch(**{argument: value})
    with pytest.raises(ValueError, match=rf"\b{argument}\b"):
        search.fit(np.zeros((24, 8, 8), dtype=np.uint8), np.arange(24) % 4)
    assert not hasattr(search, "history_")


# ------------------------------------------------------------------------------------ its steps


class CountsSteps(torch.nn.Module):
    """A network that notes the sizes of the batches it is trained with, its copies' too."""

    sizes: ClassVar[list[int]] = []

    def __init__(self, n_classes):
        super().__init__()
        self.head = torch.nn.Linear(16, n_classes)

    def forward(self, x):
        if self.training:
            self.sizes.append(len(x))
        return self.head(x.flatten(1))


@pytest.mark.parametrize(
    ("n_samples", "batch_size", "wanted"),
    [(100, 128, 8), (400, 128, 10), (1280, 128, 32), (8000, 128, 50), (1280, 8, 8), (8000, 40, 40)],
)
def test_an_epoch_of_all_rows_has_forty_to_160_steps(trains_once, n_samples, batch_size, wanted):
    sizes = CountsSteps.sizes
    sizes.clear()
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (n_samples, 4, 4), dtype=np.uint8)
    y = np.arange(n_samples) % 4
    search = PoisonSearch(
        backbone=lambda shape, n_classes: CountsSteps(n_classes),
        epochs=1,
        learning_rate=0.001,
        batch_size=batch_size,
        random_state=0,
    )
    search.fit(X, y)
    assert max(sizes) == wanted
    # Each row once.
    assert sum(sizes) == n_samples


def test_a_network_is_trained_further_at_half_the_rate(few, monkeypatch):
    networks = []

    def asks_twice(samples, labels, *, probe, **settings):
        every_row = np.ones(len(labels), dtype=bool)
        networks.append(probe(every_row, 0.5).network)
        networks.append(probe(every_row, 0.5, networks[0], gently=True).network)
        return Detection.untested(flag_nothing(len(labels)))

    monkeypatch.setattr("antibackdoor.detection._poison_search.find_poison", asks_twice)
    with pytest.warns(UserWarning, match="no class of this data has two parts"):
        search = quick(epochs=5).fit(*few)
    assert networks[0] is networks[1]
    rates = [row["learning_rate"] for row in search.history_ if row["phase"] == "probe"]
    # Three epochs, of two and a half, each time.
    assert rates[3:] == pytest.approx([rate / 2 for rate in rates[:3]])


def test_bars_of_all_that_was_trained(few, trains_once, capsys):
    quick().set_callbacks(ProgressBar()).fit(*few)
    bars = capsys.readouterr().out.splitlines()
    assert all("100%" in bar for bar in bars)
    assert any("probe" in bar for bar in bars)


# -------------------------------------------------------------------------------- not searched


def assert_untested(search):
    assert np.isnan(search.isolate_pvalue_)
    assert search.isolate_signs_ == {}
    assert len(search.isolate_) == len(search.isolate_classes_) == 0
    assert not search.isolate_mask_.any()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_of_few_classes_nothing_is_trained(digits, n_classes):
    says = (
        f"PoisonSearch has not searched for poison, and flags nothing: y has {n_classes} classes "
        f"of 20 rows or more, and it needs 4"
    )
    with pytest.warns(UserWarning, match=says):
        search = quick().fit(*of_classes(digits, range(n_classes)))
    assert_untested(search)
    assert search.history_ == []
    assert search.classes_.tolist() == list(range(n_classes))


def test_a_table_is_not_searched_and_nothing_is_trained(digits):
    X, y = of_classes(digits, range(5))
    table = X.reshape(len(X), -1) / 16
    with pytest.warns(UserWarning, match="X is a table, and it looks at images"):
        search = quick().fit(table, y)
    assert_untested(search)
    assert search.history_ == []
    # Folded, the same rows are images.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folded = quick(image_shape=(8, 8)).fit(table, y)
    assert np.isfinite(folded.isolate_pvalue_)


def test_the_warning_says_what_to_do_instead(digits):
    with pytest.warns(UserWarning, match=r"LossRank\(ratio=0\.05\)"):
        quick().fit(*of_classes(digits, (0, 1)))
    assert len(LossRank(ratio=0.05, epochs=1).fit(*of_classes(digits, (0, 1))).isolate_) == 3
