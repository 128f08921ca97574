"""The cures as parameters, what the last network learns of each row, and lists of a person."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from antibackdoor import (
    ABLClassifier,
    Ascent,
    CBDClassifier,
    Joint,
    LossRank,
    Mixed,
    NegativeLearning,
    PoisonSearch,
    RelativeLoss,
    Retrain,
    SpectralSignatures,
)
from antibackdoor.detection import BaseDetector, Detection, Isolation

CURES = [Retrain, NegativeLearning, Joint, Ascent, Mixed]
BOTH = pytest.mark.parametrize("classifier", [ABLClassifier, CBDClassifier])


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:60], y[:60]


# --------------------------------------------------------------------------------- as parameters


@pytest.mark.parametrize("cure", CURES)
def test_a_cure_is_got_cloned_and_set_as_part_of_a_classifier(cure):
    clf = ABLClassifier(cure=cure())
    names = {name.removeprefix("cure__") for name in clf.get_params() if "cure__" in name}
    assert (
        names
        == {
            Retrain: set(),
            NegativeLearning: set(),
            Joint: {"bound"},
            Ascent: {"bound", "epochs", "learning_rate"},
            Mixed: {"bound", "epochs", "learning_rate", "recovery_epochs"},
        }[cure]
    )
    changed = {f"cure__{name}": 3 for name in names}
    cloned = clone(clf).set_params(**changed)
    assert isinstance(cloned.cure, cure)
    assert cloned.cure is not clf.cure
    assert {k: v for k, v in cloned.get_params().items() if "cure__" in k} == changed
    # The one it was cloned from is as it was.
    assert repr(clf.cure) == repr(cure())


def test_a_cure_has_no_parameter_that_is_not_its_own():
    with pytest.raises(ValueError, match="recovery_epochs"):
        ABLClassifier(cure=Ascent()).set_params(cure__recovery_epochs=3)


def test_parameters_of_a_detector_where_there_is_none_are_those_of_a_search():
    clf = ABLClassifier().set_params(detector__epochs=3, cure=Mixed(), cure__epochs=4)
    assert isinstance(clf.detector, PoisonSearch)
    assert (clf.detector.epochs, clf.cure.epochs) == (3, 4)
    # Where there is one, it stays.
    clf = CBDClassifier(detector=LossRank()).set_params(detector__epochs=3)
    assert isinstance(clf.detector, LossRank)


@pytest.mark.parametrize(
    ("cure", "name", "value"),
    [
        (Joint, "bound", 0),
        (Joint, "bound", "none"),
        (Ascent, "epochs", 0),
        (Ascent, "epochs", 1.5),
        (Ascent, "learning_rate", 0),
        (Ascent, "bound", -1),
        (Mixed, "epochs", 0),
        (Mixed, "learning_rate", -0.1),
        (Mixed, "bound", 0),
        (Mixed, "recovery_epochs", 0),
    ],
)
def test_bad_parameters_of_a_cure_are_refused_by_name(few, cure, name, value):
    clf = ABLClassifier(detector=LossRank(), cure=cure(**{name: value}))
    with pytest.raises(ValueError, match=rf"'{name}' parameter of {cure.__name__}\b"):
        clf.fit(*few)
    assert not hasattr(clf, "history_")


# ------------------------------------------------------- what can be no detector, and no cure

NOT_FITTING = [
    LossRank,
    "auto",
    LogisticRegression(),
    make_pipeline(StandardScaler(), LogisticRegression()),
    Retrain,
    0.01,
]


@BOTH
@pytest.mark.parametrize("detector", [*NOT_FITTING, Retrain()], ids=repr)
def test_what_is_no_detector_is_refused_before_training(few, classifier, detector):
    clf = classifier(detector=detector)
    with pytest.raises((ValueError, TypeError), match=r"\bdetector\b"):
        clf.fit(*few)
    assert not hasattr(clf, "history_")


@pytest.mark.parametrize("cure", [*NOT_FITTING, LossRank()], ids=repr)
def test_what_is_no_cure_is_refused_before_training(few, cure):
    clf = ABLClassifier(cure=cure)
    with pytest.raises((ValueError, TypeError), match=r"\bcure\b"):
        clf.fit(*few)
    assert not hasattr(clf, "history_")


@BOTH
@pytest.mark.parametrize(
    ("own", "outer"),
    [
        ({"layout": "channels_first"}, {"layout": "channels_last"}),
        ({"device": "cpu"}, {"device": torch.device("cpu:0")}),
        ({"image_shape": (8, 8)}, {"image_shape": (4, 16)}),
        ({"cache_dir": "one"}, {"cache_dir": "other"}),
        ({"cache_dir": "one"}, {}),
        ({"layout": "channels_first"}, {}),
    ],
    ids=str,
)
def test_a_detector_cannot_contradict_its_classifier(few, classifier, own, outer, tmp_path):
    ((name, value),) = own.items()
    clf = classifier(detector=SpectralSignatures(**own), **outer)
    with pytest.raises(
        ValueError, match=rf"detector__{name}={re.escape(repr(value))}, but {name}="
    ):
        clf.fit(*few)
    assert not hasattr(clf, "history_")


@BOTH
@pytest.mark.parametrize("detector", [LossRank(epochs=0), PoisonSearch(epochs=0)], ids=repr)
def test_bad_parameters_of_a_detector_are_refused_by_name(few, classifier, detector):
    clf = classifier(detector=detector)
    with pytest.raises(ValueError, match=rf"parameter of {type(detector).__name__}\b"):
        clf.fit(*few)
    assert not hasattr(clf, "history_")


# ------------------------------------------------------------- what the last network learns


class Finds(BaseDetector):
    """Flags the first six rows, four of them by a complementary label; two more are doubtful."""

    def __init__(
        self,
        *,
        backbone="auto",
        batch_size=128,
        learning_rate=0.1,
        lr_schedule="onecycle",
        momentum=0.9,
        weight_decay=5e-4,
        augment="auto",
        image_shape=None,
        layout="auto",
        device="auto",
        compile="auto",
        cache_dir=None,
        random_state=None,
    ):
        super().__init__(
            backbone=backbone,
            batch_size=batch_size,
            learning_rate=learning_rate,
            lr_schedule=lr_schedule,
            momentum=momentum,
            weight_decay=weight_decay,
            augment=augment,
            image_shape=image_shape,
            layout=layout,
            device=device,
            compile=compile,
            cache_dir=cache_dir,
            random_state=random_state,
        )

    def _n_phases(self):
        return 0

    def _detect(self, run):
        rows = np.arange(len(run.samples))
        scores = np.select([rows < 6, rows < 8], [0.9, 0.3], 0.0)
        return Detection(
            Isolation(scores, 0.5), trusted=rows >= 8, complementary=rows < 4, p_value=0.0
        )


@pytest.fixture
def phases(monkeypatch):
    """What each phase was trained with, by name."""
    from antibackdoor.training import Run

    trained, train = {}, Run.phase

    def spy(run, name, network, objective, **given):
        trained[name] = {"objective": objective, **given}
        return train(run, name, network, objective, **given)

    monkeypatch.setattr(Run, "phase", spy)
    return trained


def rows_of(phase):
    epoch = phase["batches"].epoch(torch.Generator().manual_seed(0))
    return sorted(torch.cat(list(epoch)).tolist())


@pytest.mark.parametrize(
    ("make", "phase", "learns_complementary"),
    [
        (lambda **s: ABLClassifier(**s), "finetune", True),
        (lambda **s: ABLClassifier(cure=NegativeLearning(), **s), "finetune", True),
        (lambda **s: ABLClassifier(cure=Retrain(), **s), "finetune", False),
        (lambda **s: CBDClassifier(**s), "clean", True),
        (lambda **s: CBDClassifier(weighting=RelativeLoss(), **s), "clean", True),
    ],
    ids=["ABL", "negative", "retrain", "CBD", "CBD weighted"],
)
def test_what_the_last_network_learns_of_each_row(few, phases, make, phase, learns_complementary):
    X, y = few
    clf = make(detector=Finds(), epochs=1, random_state=0).fit(X, y)
    complementary = [0, 1, 2, 3] if learns_complementary else []
    assert rows_of(phases[phase]) == complementary + list(range(8, 60))
    assert clf.isolate_mask_[:6].all()
    # The doubtful two are judged by it: after an epoch it rejects whatever label.
    rejected = clf.predict(X) != y
    assert rejected[6:8].any()
    assert clf.isolate_mask_[6:8].tolist() == rejected[6:8].tolist()
    assert not clf.isolate_mask_[8:].any()


def test_negative_learning_holds_complementary_labels_for_unlikely(few):
    X, y = few
    left_out, learned = (
        ABLClassifier(detector=Finds(), cure=cure, epochs=10, batch_size=16, random_state=0)
        .fit(X, y)
        .predict_proba(X)[np.arange(4), y[:4]]
        for cure in (Retrain(), NegativeLearning())
    )
    assert learned.mean() < left_out.mean()


# ------------------------------------------------------------------------- a list of a person


@pytest.fixture
def suspects(few):
    """Every fourth row, but some of every class left."""
    return np.arange(60) % 4 == 0


@BOTH
@pytest.mark.parametrize("detector", [None, LossRank()], ids=repr)
def test_a_reviewed_list_takes_the_place_of_the_detector(
    few, suspects, phases, classifier, detector
):
    X, y = few
    clf = classifier(detector=detector, epochs=1, random_state=0).fit(X, y, suspects=suspects)
    # CBD needs a backdoored network whoever lists the rows.
    assert set(phases) == ({"finetune"} if classifier is ABLClassifier else {"isolate", "clean"})
    np.testing.assert_array_equal(clf.isolate_mask_, suspects)
    assert np.isnan(clf.isolate_pvalue_)
    assert clf.isolate_signs_ == {}
    # Nobody says that their labels are complementary: they are left out.
    last = phases["finetune" if classifier is ABLClassifier else "clean"]
    assert rows_of(last) == np.flatnonzero(~suspects).tolist()


@pytest.mark.parametrize("cure", CURES)
def test_every_cure_takes_a_list(few, suspects, cure):
    X, y = few
    clf = ABLClassifier(cure=cure(), epochs=1, backbone="mlp", random_state=0)
    clf.fit(X, y, suspects=suspects.tolist())
    assert clf.predict(X).shape == y.shape


def test_a_list_is_no_reason_to_warn_of_few_classes(few):
    X, y = few
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = ABLClassifier(epochs=1, random_state=0).fit(X, y % 2, suspects=np.arange(60) < 5)
    assert len(clf.isolate_) == 5


def test_an_empty_list_leaves_all_rows_in(few, phases):
    X, y = few
    clf = ABLClassifier(epochs=1, random_state=0).fit(X, y, suspects=np.zeros(60, dtype=bool))
    assert rows_of(phases["finetune"]) == list(range(60))
    assert not clf.unlearned_


@BOTH
@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (
            lambda y: np.zeros(59, dtype=bool),
            ValueError,
            r"suspects has shape \(59,\); wanted \(60,\)",
        ),
        (lambda y: np.zeros((60, 1), dtype=bool), ValueError, r"suspects has shape \(60, 1\)"),
        (lambda y: np.array(True), ValueError, r"suspects has shape \(\)"),
        (lambda y: np.zeros(60, dtype=int), TypeError, "suspects holds int64; wanted booleans"),
        (lambda y: np.zeros(60), TypeError, "suspects holds float64; wanted booleans"),
        (lambda y: [3, 5], TypeError, "suspects holds int64; wanted booleans"),
        (lambda y: ["True"] * 60, TypeError, "suspects holds <U4; wanted booleans"),
        (lambda y: y == 3, ValueError, r"suspects marks all rows of the classes \[3\]"),
        (lambda y: np.ones(60, dtype=bool), ValueError, "suspects marks all rows of the classes"),
    ],
    ids=["short", "a column", "one", "int", "float", "row numbers", "text", "a class", "all"],
)
def test_bad_lists_are_refused_by_name(few, classifier, spoil, error, says):
    X, y = few
    clf = classifier(epochs=1)
    with pytest.raises(error, match=says):
        clf.fit(X, y, suspects=spoil(y))
    assert not hasattr(clf, "history_")
