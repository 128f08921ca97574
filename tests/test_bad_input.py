"""Bad input is refused by name, before training, and leaves the estimator as it was."""

import copy
import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from antibackdoor import (
    ABLClassifier,
    Ascent,
    CBDClassifier,
    Joint,
    LossRank,
    Mixed,
    RelativeLoss,
    Retrain,
    SpectralSignatures,
    UndefendedClassifier,
)
from antibackdoor.training import _run

IMAGES = np.random.default_rng(0).random((24, 8, 8))
TABLE = IMAGES.reshape(24, -1)
TWO_CHANNELS = np.stack([IMAGES, IMAGES], axis=1)
LABELS = np.arange(24) % 3
METHODS = ["predict", "predict_proba", "decision_function"]


def spoil(X, value):
    X = X.copy()
    X[(5,) + (-1,) * (X.ndim - 1)] = value
    return X


def linear(n_inputs, n_outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, n_outputs))


class EndsInSoftmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.logits = linear(64, 3)

    def forward(self, x):
        return self.logits(x).softmax(1)


def bad(
    name,
    argument,
    *,
    error=ValueError,
    classifier=UndefendedClassifier,
    X=IMAGES,
    y=LABELS,
    **parameters,
):
    """A call of fit that must raise an error of this type which names the argument."""
    return pytest.param(classifier, parameters, X, y, error, argument, id=name)


def bad_abl(name, argument, **parameters):
    return bad(name, argument, classifier=ABLClassifier, **parameters)


CASES = [
    # --- X
    bad("nan-4d", "X", X=spoil(IMAGES[..., None], np.nan)),
    bad("nan-3d", "X", X=spoil(IMAGES, np.nan)),
    bad("nan-2d", "X", X=spoil(TABLE, np.nan)),
    bad("infinity-4d", "X", X=spoil(IMAGES[:, None], np.inf)),
    bad("infinity-3d", "X", X=spoil(IMAGES.astype(np.float32), np.inf)),
    bad("infinity-2d", "X", X=spoil(TABLE, -np.inf)),
    bad("rank-0", "X", X=3.0),
    bad("rank-1", "X", X=TABLE[:, 0]),
    bad("rank-5", "X", X=IMAGES[:, None, None]),
    bad("empty", "X", X=IMAGES[:0], y=LABELS[:0]),
    bad("no-pixels", "X", X=np.zeros((24, 0, 8))),
    bad("no-channels", "X", X=np.zeros((24, 8, 8, 0))),
    bad("no-features", "X", X=np.zeros((24, 0))),
    bad("ragged", "X", X=[[0.0, 1.0], [2.0]], y=[0, 1]),
    bad("objects", "X", error=TypeError, X=np.full((24, 4), object())),
    bad("text", "X", X=np.full((24, 4), "white")),
    bad("complex", "X", X=TABLE * 1j),
    bad("sparse", "X", error=TypeError, X=sparse.csr_array(TABLE)),
    bad("none", "X", X=None),
    # --- y
    bad("lengths-differ", "X", y=LABELS[:20]),
    bad("lengths-differ-y", "y", y=LABELS[:20]),
    bad("one-class", "y", y=np.zeros(24, dtype=int)),
    bad("continuous", "y", y=np.linspace(0, 1, 24)),
    bad("nan-label", "y", y=np.where(LABELS == 0, np.nan, LABELS)),
    bad("two-columns", "y", y=np.stack([LABELS, LABELS], axis=1)),
    bad("mixed-labels", "y", y=np.array([0, "one", 2] * 8, dtype=object)),
    bad("no-labels", "y", y=None),
    # --- image_shape and layout
    bad("ambiguous-square", "layout", X=np.zeros((24, 8, 8, 8))),
    bad("ambiguous-both", "layout", X=np.zeros((24, 3, 8, 3))),
    bad("ambiguous-folded", "layout", X=np.zeros((24, 72)), image_shape=(3, 8, 3)),
    bad("unknown-layout", "layout", layout="nchw"),
    bad("shape-product", "image_shape", X=TABLE, image_shape=(8, 9)),
    bad("shape-zero", "image_shape", X=TABLE, image_shape=(0, 8)),
    bad("shape-negative", "image_shape", X=TABLE, image_shape=(-8, -8)),
    bad("shape-fraction", "image_shape", X=TABLE, image_shape=(8.5, 8)),
    bad("shape-nan", "image_shape", X=TABLE, image_shape=(np.nan, 8)),
    bad("shape-infinite", "image_shape", X=TABLE, image_shape=(np.inf, 8)),
    bad("shape-digits", "image_shape", error=TypeError, X=TABLE, image_shape=("8", "8")),
    bad("shape-bool", "image_shape", error=TypeError, X=TABLE, image_shape=(True, 64)),
    bad("shape-nested", "image_shape", error=TypeError, X=TABLE, image_shape=((8, 8),)),
    bad("shape-text", "image_shape", X=TABLE, image_shape="8x8"),
    bad("shape-number", "image_shape", X=TABLE, image_shape=64),
    bad("shape-one-axis", "image_shape", X=TABLE, image_shape=(64,)),
    bad("shape-four-axes", "image_shape", X=TABLE, image_shape=(1, 8, 8, 1)),
    bad("shape-contradicts", "image_shape", image_shape=(4, 16)),
    # --- backbone
    bad("unknown-backbone", "backbone", backbone="resnet-9000"),
    bad("wrn-depth", "backbone", backbone="wrn-15-1"),
    bad("wrn-width", "backbone", backbone="wrn-16-0"),
    bad("images-on-table", "backbone", X=TABLE, backbone="small-cnn"),
    bad("torchvision-on-table", "backbone", X=TABLE, backbone="resnet18"),
    bad("backbone-number", "backbone", backbone=18),
    bad("backbone-none", "backbone", backbone=None),
    bad("returns-no-module", "backbone", error=TypeError, backbone=lambda shape, n: "mlp"),
    bad("too-few-columns", "backbone", backbone=linear(64, 2)),
    bad("too-many-columns", "backbone", backbone=lambda shape, n: linear(64, n + 1)),
    bad("wrong-input", "backbone", backbone=linear(63, 3)),
    bad("no-linear", "backbone", backbone=nn.Flatten()),
    bad("softmax", "backbone", backbone=EndsInSoftmax()),
    bad("too-small-for-alexnet", "backbone", backbone="alexnet"),
    bad("too-small-for-vit", "backbone", backbone="vit_b_16"),
    bad("too-small-for-maxvit", "backbone", backbone="maxvit_t"),
    bad("two-channels", "backbone", X=TWO_CHANNELS, backbone="resnet18", layout="channels_first"),
    # --- device and random_state
    bad("unknown-device", "device", device="quantum"),
    bad("absent-device", "device", device="cuda:99"),
    bad("meta-device", "device", device="meta"),
    bad("device-number", "device", device=0),
    bad("random-state-text", "random_state", random_state="x"),
    bad("random-state-negative", "random_state", random_state=-1),
    # --- augment
    bad("unknown-augment", "augment", augment="rotate"),
    bad("unknown-in-augment", "augment", augment=("crop", "rotate")),
    bad("auto-in-augment", "augment", augment=["auto", "flip"]),
    bad("augment-table", "augment", X=TABLE, augment="crop"),
    bad("augment-number", "augment", augment=3),
    bad("augment-numbers", "augment", augment=(1, "crop")),
    bad("augment-nested", "augment", augment=[["crop"]]),
    # --- the schedule and the steps
    bad("unknown-schedule", "lr_schedule", lr_schedule="linear"),
    bad("schedule-number", "lr_schedule", lr_schedule=3),
    bad("schedule-fraction", "lr_schedule", lr_schedule=(0.5,)),
    bad("schedule-negative", "lr_schedule", lr_schedule=(-3,)),
    bad("schedule-zero", "lr_schedule", lr_schedule=(0, 3)),
    bad("schedule-empty", "lr_schedule", lr_schedule=()),
    bad("schedule-falls", "lr_schedule", lr_schedule=(5, 3)),
    bad("schedule-stays", "lr_schedule", lr_schedule=(5, 5)),
    bad("schedule-text", "lr_schedule", error=TypeError, lr_schedule=("ten",)),
    bad("schedule-nested", "lr_schedule", error=TypeError, lr_schedule=[[1, 2]]),
    bad("schedule-array", "lr_schedule", lr_schedule=np.array([2.5, 3.5])),
    bad("batch-of-one", "batch_size", batch_size=1),
    bad("batch-fraction", "batch_size", batch_size=32.0),
    bad("learning-rate-0", "learning_rate", learning_rate=0),
    bad("learning-rate-negative", "learning_rate", learning_rate=-1),
    bad("learning-rate-text", "learning_rate", learning_rate="fast"),
    bad("learning-rate-nan", "learning_rate", learning_rate=np.nan),
    bad("momentum-1", "momentum", momentum=1.0),
    bad("weight-decay-negative", "weight_decay", weight_decay=-1),
    bad("epochs-0", "epochs", epochs=0),
    # --- ABL
    bad_abl("unknown-detector", "detector", detector="search"),
    bad_abl("detector-class", "detector", detector=LossRank),
    bad_abl("detector-pipeline", "detector", detector=make_pipeline(StandardScaler(), LossRank())),
    bad_abl("detector-classifier", "detector", detector=UndefendedClassifier()),
    bad_abl("unknown-cure", "cure", cure="retrain"),
    bad_abl("cure-class", "cure", cure=Retrain),
    bad_abl("cure-number", "cure", cure=3),
    bad_abl("epochs-0-abl", "epochs", epochs=0),
    bad_abl("gamma", "gamma", detector=LossRank(gamma=-1)),
    bad_abl("alarms-0", "false_alarm_rate", detector__false_alarm_rate=0),
    bad_abl("alarms-1", "false_alarm_rate", detector__false_alarm_rate=1),
    bad_abl("alarms-text", "false_alarm_rate", detector__false_alarm_rate="x"),
    bad_abl("search-epochs-0", "epochs", detector__epochs=0),
    bad_abl("ratio-0", "ratio", detector=LossRank(ratio=0)),
    bad_abl("ratio-0.7", "ratio", detector=LossRank(ratio=0.7)),
    bad_abl("ratio-text", "ratio", detector=LossRank(ratio="lots")),
    bad_abl("rank-epochs-0", "epochs", detector=LossRank(epochs=0)),
    bad_abl("unknown-rank", "rank_by", detector=LossRank(rank_by="loss")),
    bad_abl("unknown-reduction", "reduction", detector=LossRank(reduction="mean")),
    bad_abl("nested-schedule", "lr_schedule", detector=LossRank(lr_schedule=(5, 3))),
    bad_abl("nested-augment", "augment", detector=LossRank(augment="rotate")),
    bad_abl("nested-backbone", "backbone", detector=LossRank(backbone="resnet-9000")),
    bad_abl(
        "spectral-rate", "expected_poison_rate", detector=SpectralSignatures(expected_poison_rate=2)
    ),
    bad_abl(
        "other-layout", "layout", detector=LossRank(layout="channels_first"), layout="channels_last"
    ),
    bad_abl("other-folder", "cache_dir", detector=LossRank(cache_dir="there")),
    bad_abl("unlearning-rate-0", "learning_rate", cure=Mixed(learning_rate=0)),
    bad_abl("unlearning-bound-0", "bound", cure=Mixed(bound=0)),
    bad_abl("unlearning-epochs-0", "epochs", cure=Mixed(epochs=0)),
    bad_abl("recovery-epochs-0", "recovery_epochs", cure=Mixed(recovery_epochs=0)),
    bad_abl("ascent-epochs-0", "epochs", cure=Ascent(epochs=0)),
    bad_abl("ascent-rate-text", "learning_rate", cure=Ascent(learning_rate="slow")),
    bad_abl("joint-bound-negative", "bound", cure=Joint(bound=-1)),
    bad_abl("cache-dir-number", "cache_dir", cache_dir=3),
    # --- CBD
    bad("cbd-detector", "detector", classifier=CBDClassifier, detector="auto"),
    bad("cbd-gamma", "gamma", classifier=CBDClassifier, detector=LossRank(gamma=-0.5)),
    bad("cbd-epochs-0", "epochs", classifier=CBDClassifier, epochs=0),
    bad("rejection-1", "rejection", classifier=CBDClassifier, weighting=RelativeLoss(rejection=1)),
    bad(
        "unknown-compare",
        "compare",
        classifier=CBDClassifier,
        weighting=RelativeLoss(compare="first"),
    ),
    bad("independence-negative", "independence", classifier=CBDClassifier, independence=-1),
    bad("bottleneck-negative", "bottleneck", classifier=CBDClassifier, bottleneck=-1),
    bad("weighting-text", "weighting", classifier=CBDClassifier, weighting="yes"),
    bad("weighting-class", "weighting", classifier=CBDClassifier, weighting=RelativeLoss),
]


@pytest.fixture
def no_training(monkeypatch):
    def fail(*args, **kwargs):
        pytest.fail("the training began")

    monkeypatch.setattr(_run, "Training", fail)


@pytest.fixture(scope="module")
def fitted():
    """Pickled classifiers that were fitted on images, by type."""
    quick = {
        UndefendedClassifier: {"epochs": 1},
        ABLClassifier: {"detector": LossRank(ratio=0.1, epochs=1), "epochs": 1},
        CBDClassifier: {"detector": LossRank(ratio=None, epochs=1), "epochs": 1},
    }
    return {
        classifier: pickle.dumps(
            classifier(backbone="mlp", random_state=0, **settings).fit(IMAGES, LABELS)
        )
        for classifier, settings in quick.items()
    }


def snapshot(estimator):
    """Attributes by identity, and a copy of what could be changed in place."""
    attributes = dict(vars(estimator))
    arrays = {
        name: value.copy() for name, value in attributes.items() if isinstance(value, np.ndarray)
    }
    weights = None
    if "module_" in attributes:
        weights = {name: w.clone() for name, w in attributes["module_"].state_dict().items()}
    return attributes, arrays, weights, copy.deepcopy(attributes.get("history_"))


def assert_unchanged(estimator, before):
    attributes, arrays, weights, history = before
    after = vars(estimator)
    assert list(after) == list(attributes)
    assert all(after[name] is value for name, value in attributes.items())
    for name, array in arrays.items():
        np.testing.assert_array_equal(after[name], array)
    assert after.get("history_") == history
    if weights is not None:
        now = after["module_"].state_dict()
        assert all(now[name].equal(weight) for name, weight in weights.items())


def test_guard_notices_training(no_training):
    with pytest.raises(pytest.fail.Exception, match="training began"):
        UndefendedClassifier().fit(IMAGES, LABELS)


def set_all(estimator, parameters):
    if any(name.startswith("detector__") for name in parameters):
        estimator.set_params(detector=None)  # whose parameters are those of a search
    estimator.set_params(**parameters)


@pytest.mark.parametrize(("classifier", "parameters", "X", "y", "error", "argument"), CASES)
def test_bad_fit(classifier, parameters, X, y, error, argument, no_training):
    estimator = classifier()
    set_all(estimator, parameters)
    was = snapshot(estimator)
    with pytest.raises(error, match=rf"\b{argument}\b"):
        estimator.fit(X, y)
    assert_unchanged(estimator, was)


# What stays does not hang on what was refused: some of the cases tell.
@pytest.mark.parametrize(("classifier", "parameters", "X", "y", "error", "argument"), CASES[::8])
def test_bad_fit_after_another(classifier, parameters, X, y, error, argument, fitted, no_training):
    estimator = pickle.loads(fitted[classifier])
    set_all(estimator, parameters)
    was = snapshot(estimator)
    with pytest.raises(error, match=rf"\b{argument}\b"):
        estimator.fit(X, y)
    assert_unchanged(estimator, was)
    assert estimator.predict(IMAGES).shape == (24,)


def test_table_is_long_enough():
    assert len(CASES) >= 45


@pytest.mark.parametrize("method", [*METHODS, "score"])
def test_before_fit(make_tiny, method):
    estimator = make_tiny()
    was = snapshot(estimator)
    arguments = (IMAGES, LABELS) if method == "score" else (IMAGES,)
    with pytest.raises(NotFittedError, match=type(estimator).__name__):
        getattr(estimator, method)(*arguments)
    assert_unchanged(estimator, was)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("X", "error"),
    [
        pytest.param(IMAGES[:, :7], ValueError, id="fewer-rows"),
        pytest.param(IMAGES[:, :, :7], ValueError, id="fewer-columns"),
        pytest.param(IMAGES[..., None], ValueError, id="other-rank"),
        pytest.param(TABLE, ValueError, id="flattened"),
        pytest.param(IMAGES[0], ValueError, id="one-image"),
        pytest.param(IMAGES[:0], ValueError, id="empty"),
        pytest.param(spoil(IMAGES, np.nan), ValueError, id="nan"),
        pytest.param(spoil(IMAGES, np.inf), ValueError, id="infinity"),
        pytest.param(np.full((2, 8, 8), "white"), ValueError, id="text"),
        pytest.param(np.full((2, 8, 8), object()), TypeError, id="objects"),
        pytest.param(TABLE[0, 0], ValueError, id="number"),
    ],
)
def test_bad_predict(method, X, error, fitted):
    estimator = pickle.loads(fitted[ABLClassifier])
    was = snapshot(estimator)
    with pytest.raises(error, match=r"\bX\b"):
        getattr(estimator, method)(X)
    assert_unchanged(estimator, was)


@pytest.mark.parametrize("n_features", [63, 65])
def test_predict_on_a_table_of_other_width(n_features):
    estimator = UndefendedClassifier(epochs=1, random_state=0).fit(TABLE, LABELS)
    was = snapshot(estimator)
    with pytest.raises(ValueError, match=rf"X has {n_features} features"):
        estimator.predict(np.zeros((2, n_features)))
    assert_unchanged(estimator, was)


def test_failing_training_takes_nothing_along(make_tiny):
    estimator = make_tiny().fit(IMAGES, LABELS)
    was_predicted = estimator.predict_proba(IMAGES)
    estimator.set_params(learning_rate=1e38)
    was = snapshot(estimator)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        estimator.fit(IMAGES[:12], LABELS[:12])
    assert_unchanged(estimator, was)
    np.testing.assert_array_equal(estimator.predict_proba(IMAGES), was_predicted)
