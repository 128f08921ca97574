"""What every detector promises, and every cure: they are found by discovery, so none escapes."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pandas as pd
import pytest
from imblearn.pipeline import make_pipeline
from PIL import Image
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer

import antibackdoor
from antibackdoor import ABLClassifier, Joint, Retrain, UndefendedClassifier, make_poisoned
from antibackdoor.datasets import load_image_folder, open_image_folder
from antibackdoor.defenses import Cure
from antibackdoor.detection import BaseDetector
from antibackdoor.utils import LazyRows


def discovered(base):
    """Return the public classes of a kind."""
    return [
        member
        for _, member in inspect.getmembers(antibackdoor, inspect.isclass)
        if issubclass(member, base) and not inspect.isabstract(member)
    ]


DETECTORS = discovered(BaseDetector)
CURES = discovered(Cure)

#: Settings of which each flags some of the poisoned digits below.
SOME = {"LossRank": {"ratio": 0.1, "epochs": 1}}
EVERY = pytest.mark.parametrize("cls", DETECTORS, ids=lambda cls: cls.__name__)


def quick(cls, **changes):
    settings = {"epochs": 2, "backbone": "mlp", "batch_size": 16, "random_state": 0}
    return cls(**{**settings, **SOME.get(cls.__name__, {}), **changes})


@pytest.fixture(scope="module")
def poisoned(digits):
    """120 images of four digits, a tenth of them with a trigger, uint8, and their labels."""
    X, y = digits
    rows = np.flatnonzero(y < 4)[:120]
    return make_poisoned(X[rows], y[rows], poison_rate=0.1, random_state=0)[:2]


@pytest.fixture(scope="module")
def fitted(poisoned):
    """Each detector, fitted on the images: by its class."""
    return {cls: quick(cls).fit(*poisoned) for cls in DETECTORS}


class Recorder:
    """A callback that keeps the names of the tasks that end, and whether anybody predicts."""

    def __init__(self, names):
        self.names = names

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context):
        self.names.append(context.task_name)


def assert_same_list(one, other):
    np.testing.assert_array_equal(one.isolate_, other.isolate_)
    np.testing.assert_array_equal(one.isolate_scores_, other.isolate_scores_)
    assert one.isolate_threshold_ == other.isolate_threshold_


def test_there_are_some():
    assert {cls.__name__ for cls in DETECTORS} >= {"PoisonSearch", "LossRank"}
    assert {cls.__name__ for cls in CURES} >= {"NegativeLearning", "Retrain", "Mixed"}


# -------------------------------------------------------------------------------------- the list


@EVERY
def test_the_isolate_family(cls, fitted, poisoned):
    _, y = poisoned
    found = fitted[cls]
    scores, mask, indices = found.isolate_scores_, found.isolate_mask_, found.isolate_
    assert (scores.dtype, mask.dtype, indices.dtype) == (np.float64, bool, np.int64)
    assert scores.shape == mask.shape == y.shape
    assert type(found.isolate_threshold_) is float
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(mask, scores > found.isolate_threshold_)
    order = np.argsort(-scores, kind="stable")
    np.testing.assert_array_equal(indices, order[mask[order]])
    np.testing.assert_array_equal(found.isolate_classes_, np.unique(y[mask]))
    assert isinstance(found.isolate_pvalue_, float)
    assert np.isnan(found.isolate_pvalue_) or 0 <= found.isolate_pvalue_ <= 1
    assert all(len(signs) == len(found.classes_) for signs in found.isolate_signs_.values())


@EVERY
def test_it_flags_some_and_not_all_of_these(cls, fitted, poisoned):
    if cls.__name__ != "PoisonSearch":  # which may find nothing in so short a training
        assert 0 < len(fitted[cls].isolate_) < len(poisoned[1])


@EVERY
def test_labels_of_any_kind(cls, fitted, poisoned):
    X, y = poisoned
    named = quick(cls).fit(X, np.array(["nought", "one", "three", "two"])[y])
    np.testing.assert_array_equal(named.isolate_mask_, fitted[cls].isolate_mask_)
    assert named.classes_.tolist() == ["nought", "one", "three", "two"]


@EVERY
def test_it_is_no_classifier(cls, fitted):
    found = fitted[cls]
    assert not hasattr(found, "module_")
    verbs = ("predict", "predict_proba", "decision_function", "transform", "score")
    assert not any(callable(getattr(found, verb, None)) for verb in verbs)
    assert {row["phase"] for row in found.history_}.isdisjoint({"finetune", "clean", "unlearn"})
    assert found.input_shape_ == (8, 8)
    assert found.n_features_in_ == 8


@EVERY
def test_the_same_seed_the_same_list(cls, fitted, poisoned):
    assert_same_list(quick(cls).fit(*poisoned), fitted[cls])


@EVERY
def test_callbacks_are_told_of_phases_and_epochs(cls, fitted, poisoned):
    names = []
    found = quick(cls).set_callbacks(Recorder(names)).fit(*poisoned)
    assert_same_list(found, fitted[cls])
    assert names.count("epoch") == len(found.history_)
    assert names[-1] == "fit"
    assert set(names) - {"epoch", "fit"} == {row["phase"] for row in found.history_}


@EVERY
def test_what_is_in_the_folder_is_not_trained_again(cls, fitted, poisoned, tmp_path):
    first, again = [], []
    quick(cls, cache_dir=tmp_path).set_callbacks(Recorder(first)).fit(*poisoned)
    found = quick(cls, cache_dir=tmp_path).set_callbacks(Recorder(again)).fit(*poisoned)
    assert_same_list(found, fitted[cls])
    assert first.count("epoch") == len(found.history_)
    assert again.count("epoch") == 0


# ------------------------------------------------------------------------------- kinds of rows


@EVERY
def test_a_mapped_file(cls, fitted, poisoned, tmp_path):
    np.save(tmp_path / "X.npy", poisoned[0])
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert_same_list(quick(cls).fit(mapped, poisoned[1]), fitted[cls])


@EVERY
def test_a_folder_of_images(cls, poisoned, tmp_path):
    X, y = poisoned
    for number, (pixels, label) in enumerate(zip(X, y, strict=True)):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / str(label) / f"{number:03d}.png")
    opened, loaded = open_image_folder(tmp_path), load_image_folder(tmp_path)
    one = quick(cls, batch_size=32)
    X_kept, y_kept = one.fit_resample(opened.X, opened.y)
    assert_same_list(one, quick(cls, batch_size=32).fit(loaded.X, loaded.y))
    # The rest is not read: it is a part of the same folder.
    assert isinstance(X_kept, LazyRows)
    np.testing.assert_array_equal(np.asarray(X_kept), loaded.X[~one.isolate_mask_])
    np.testing.assert_array_equal(y_kept, loaded.y[~one.isolate_mask_])


KINDS = {
    "array": (lambda X: X, lambda y: y),
    "list": (lambda X: X.tolist(), lambda y: y.tolist()),
    "pandas": (
        lambda X: pd.DataFrame(X.reshape(len(X), -1)).set_axis(
            [f"p{i}" for i in range(64)], axis=1
        ),
        pd.Series,
    ),
    "pillow": (lambda X: [Image.fromarray(pixels) for pixels in X], lambda y: y),
}


@pytest.mark.parametrize("kind", KINDS)
@EVERY
def test_the_rest_is_of_the_kind_that_was_given(cls, kind, poisoned):
    as_kind, as_labels = KINDS[kind]
    X, y = as_kind(poisoned[0]), as_labels(poisoned[1])
    detector = quick(cls, epochs=1, image_shape=(8, 8))
    X_kept, y_kept = detector.fit_resample(X, y)
    kept = np.flatnonzero(~detector.isolate_mask_)
    assert type(X_kept) is type(X)
    assert type(y_kept) is type(y)
    if kind == "pandas":
        pd.testing.assert_frame_equal(X_kept, X.iloc[kept])
        pd.testing.assert_series_equal(y_kept, y.iloc[kept])
    else:
        np.testing.assert_array_equal(np.stack(X_kept), np.stack([X[row] for row in kept]))
        np.testing.assert_array_equal(y_kept, np.asarray(y)[kept])


@EVERY
def test_in_a_pipeline_of_imbalanced_learns(cls, fitted, poisoned):
    X, y = poisoned
    # Its resamplers may stand anywhere before the last step; a prediction passes them by.
    classifier = UndefendedClassifier(backbone="mlp", epochs=1, random_state=0)
    scaled = FunctionTransformer(lambda rows: rows / np.float32(255))
    pipeline = make_pipeline(quick(cls), scaled, classifier).fit(X, y)
    kept = ~fitted[cls].isolate_mask_
    by_hand = clone(classifier).fit(X[kept] / np.float32(255), y[kept])
    np.testing.assert_array_equal(
        pipeline.predict_proba(X), by_hand.predict_proba(X / np.float32(255))
    )


# --------------------------------------------------------------------------- inside a classifier


@EVERY
def test_nested_it_flags_what_it_flags_alone(cls, fitted, poisoned):
    detector = quick(cls)
    clf = ABLClassifier(detector=detector, cure=Joint(), epochs=1, backbone="mlp")
    clf.set_params(random_state=1).fit(*poisoned)
    assert_same_list(clf, fitted[cls])
    np.testing.assert_equal(clf.isolate_pvalue_, fitted[cls].isolate_pvalue_)
    # The classifier leaves its detector as it was.
    assert vars(detector) == vars(quick(cls))


@EVERY
def test_nested_it_takes_what_it_does_not_say(cls, poisoned):
    X, y = poisoned
    flat = X.reshape(len(X), -1)
    detector = quick(cls, epochs=1).set_params(backbone="auto")
    clf = ABLClassifier(
        detector=detector,
        cure=Retrain(),
        epochs=1,
        backbone="mlp",
        image_shape=(8, 8),
        random_state=0,
    )
    alone = quick(cls, epochs=1, image_shape=(8, 8)).fit(flat, y)
    clf.fit(flat, y)
    # Retraining may add doubtful rows, which come last.
    np.testing.assert_array_equal(clf.isolate_[: len(alone.isolate_)], alone.isolate_)


@EVERY
def test_its_parameters_are_set_and_cloned(cls):
    detector = quick(cls)
    again = clone(detector)
    assert again.get_params() == detector.get_params()
    clf = ABLClassifier(detector=detector)
    copied = clone(clf)
    assert copied.detector is not detector
    assert copied.get_params()["detector__epochs"] == detector.epochs
    copied.set_params(detector__epochs=7)
    assert (copied.detector.epochs, detector.epochs) == (7, quick(cls).epochs)


@EVERY
def test_bad_input_is_refused_and_leaves_no_list(cls, poisoned):
    X, y = poisoned
    for call, name in (
        (lambda d: d.fit(X, y[:5]), "X"),
        (lambda d: d.fit(X, np.zeros(len(X), int)), "y"),
        (lambda d: d.fit_resample(X, None), "y"),
        (lambda d: d.set_params(epochs=0).fit(X, y), "epochs"),
    ):
        detector = quick(cls)
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            call(detector)
        assert not hasattr(detector, "isolate_")


@EVERY
def test_it_takes_tables(cls):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 5)), np.arange(80) % 4
    detector = quick(cls, backbone="mlp", epochs=1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        detector.fit(X, y)
    assert detector.isolate_scores_.shape == (80,)
    searches = cls.__name__ == "PoisonSearch"
    assert [str(warning.message) for warning in told if not searches] == []
    if searches:
        assert "has not searched for poison" in str(told[0].message)
        assert len(detector.isolate_) == 0


# ------------------------------------------------------------------------------------- the cures


@pytest.mark.parametrize("cls", CURES, ids=lambda cls: cls.__name__)
def test_a_cure_is_set_and_cloned(cls):
    cure = cls()
    assert clone(cure).get_params() == cure.get_params()
    clf = ABLClassifier(cure=cure)
    copied = clone(clf)
    assert type(copied.cure) is cls
    assert copied.cure is not cure
    for name, value in cure.get_params().items():
        assert copied.get_params()[f"cure__{name}"] == value
        changed = 3 if name != "bound" else 3.0
        copied.set_params(**{f"cure__{name}": changed})
        assert getattr(copied.cure, name) == changed
        assert getattr(cure, name) == value


@pytest.mark.parametrize("cls", CURES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("detector", DETECTORS, ids=lambda cls: cls.__name__)
def test_any_cure_meets_any_detector(cls, detector, poisoned):
    short = {name: 1 for name in cls().get_params() if name.endswith("epochs")}
    clf = ABLClassifier(
        detector=quick(detector, epochs=1, backbone="mlp", image_shape=(8, 8)),
        cure=cls(**short),
        epochs=1,
        backbone="mlp",
        image_shape=(8, 8),
        random_state=0,
    )
    X, y = poisoned
    clf.fit(X, y)
    assert clf.predict(X).shape == y.shape
