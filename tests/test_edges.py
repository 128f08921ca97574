"""The smallest, the largest and the oddest data that the package is to take."""

import random
import zipfile
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import antibackdoor
from antibackdoor import (
    Ascent,
    Joint,
    LossRank,
    Mixed,
    NegativeLearning,
    PoisonSearch,
    Retrain,
)
from antibackdoor.attacks import ATTACKS, BadNets, LearnedAttack, Trojan, WaNet, make_attack
from antibackdoor.datasets import load_dataset, make_poisoned
from antibackdoor.metrics import (
    lowest_asr_within,
    make_asr_scorer,
    make_clean_accuracy_scorer,
    make_retention_scorer,
    make_robust_accuracy_scorer,
)

ONE_EPOCH = {"epochs": 1, "finetune_epochs": 1}
# Most of these data are too small to be searched, and the defaults say so.
pytestmark = pytest.mark.filterwarnings("ignore:.*has not searched for poison:UserWarning")

QUICK = {
    "UndefendedClassifier": {"epochs": 1},
    "ABLClassifier": {"detector": PoisonSearch(epochs=1), "epochs": 1},
    "CBDClassifier": {"detector": PoisonSearch(epochs=1), "epochs": 1},
    "DBDClassifier": {"self_supervised_epochs": 1, "head_epochs": 1, "finetune_epochs": 1},
    "FinePruningClassifier": ONE_EPOCH,
    "ModeConnectivityClassifier": ONE_EPOCH,
    "NADClassifier": ONE_EPOCH,
}
UNTRAINED = [name for name, attack in ATTACKS.items() if not issubclass(attack, LearnedAttack)]


def images(*shape, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, shape)
    return (values / 255).astype(dtype) if np.dtype(dtype).kind == "f" else values.astype(dtype)


def cnn(shape, n_classes):
    """A network that takes images of any size, with batch norm."""
    return nn.Sequential(
        *(nn.Conv2d(shape[0], 4, 3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n_classes)),
    )


@pytest.fixture(params=QUICK)
def make(request):
    """Function that makes a classifier of one epoch a phase: in turn each of `QUICK`."""

    def make(**changes):
        settings = {"batch_size": 16, "random_state": 0, **QUICK[request.param]}
        return getattr(antibackdoor, request.param)(**{**settings, **changes})

    return make


def assert_usable(clf, X, y):
    probabilities = clf.predict_proba(X)
    assert probabilities.shape == (len(X), len(np.unique(y)))
    assert np.isfinite(probabilities).all()
    assert np.isin(clf.predict(X), y).all()
    assert np.isfinite(clf.isolate_scores_).all()
    np.testing.assert_array_equal(
        clf.isolate_mask_, clf.isolate_scores_ > clf.isolate_threshold_, strict=True
    )


# --- few rows, few and many classes


EDGES = {
    "two-rows": (images(2, 8, 8), np.arange(2), {}),
    # A batch of two, and one row left over, which batch norm alone could not take.
    "three-rows": (images(3, 8, 8), np.arange(3) % 2, {"batch_size": 2}),
    "one-row-of-a-class": (images(60, 8, 8), np.arange(60) == 59, {}),
    "one-row-of-each-of-many": (images(60, 8, 8), np.maximum(np.arange(60), 30), {}),
    "constant-images": (np.full((40, 8, 8), 7, dtype=np.uint8), np.arange(40) % 4, {}),
    "constant-table": (np.full((40, 8), -7.5), np.arange(40) % 4, {}),
    "one-pixel": (images(24, 1, 1), np.arange(24) % 3, {}),
    "one-pixel-in-colour": (images(24, 3, 1, 1), np.arange(24) % 3, {"layout": "channels_first"}),
    "one-row-of-pixels": (images(24, 1, 40), np.arange(24) % 3, {}),
    "one-feature": (images(24, 1, dtype=np.float64), np.arange(24) % 3, {}),
    "512-pixels": (images(4, 512, 512), np.arange(4) % 2, {"backbone": cnn}),
    "1000-classes": (
        images(2000, 2, 2),
        np.arange(2000) % 1000,
        {"backbone": cnn, "batch_size": 250},
    ),
}


@pytest.mark.filterwarnings("ignore:The number of unique classes:UserWarning")
@pytest.mark.parametrize("edge", EDGES)
def test_fit_and_predict(make, edge):
    X, y, settings = EDGES[edge]
    clf = make(**settings).fit(X, y)
    assert_usable(clf, X, y)
    assert clf.predict(X[:1]).shape == (1,)


@pytest.mark.parametrize(
    "cure",
    [
        NegativeLearning(),
        Retrain(),
        Mixed(epochs=1, recovery_epochs=1),
        Ascent(epochs=1),
        Joint(),
    ],
    ids=lambda cure: type(cure).__name__,
)
def test_a_class_that_is_isolated_whole(cure):
    """Class 0 is learned at once, so it has the lowest losses, and its share is isolated."""
    X, y = images(40, 8, 8), np.arange(40) % 4
    X[y == 0] = 255
    clf = antibackdoor.ABLClassifier(
        detector=LossRank(ratio=0.25, epochs=4, rank_by="last_epoch", batch_size=8),
        cure=cure,
        epochs=1,
        batch_size=8,
        random_state=0,
    ).fit(X, y)
    if not isinstance(cure, Mixed):  # which flags what loses its label
        np.testing.assert_array_equal(clf.isolate_mask_, y == 0)
    assert_usable(clf, X, y)
    np.testing.assert_array_equal(clf.classes_, [0, 1, 2, 3])


def test_classes_with_fewer_rows_than_are_isolated(make):
    """Six rows are isolated, and the classes but one have two rows."""
    X, y = images(20, 8, 8), np.minimum(np.arange(20) // 2, 4)
    clf = make()
    if isinstance(clf, antibackdoor.ABLClassifier):
        clf.set_params(detector=LossRank(ratio=0.3, epochs=1))
    assert_usable(clf.fit(X, y), X, y)


# --- types


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int16", "uint16", "int64", "uint64", "float16", "longdouble", ">f4"]
)
def test_types_of_the_same_values(dtype):
    """All but uint8, float32 and float64 become float64, which holds these values exactly."""
    X, y = (images(24, 8, 8) % 2).astype(dtype), np.arange(24) % 3
    clf, reference = (
        antibackdoor.UndefendedClassifier(epochs=1, random_state=0).fit(rows, y)
        for rows in (X, X.astype(np.float64))
    )
    np.testing.assert_array_equal(
        clf.predict_proba(X), reference.predict_proba(X.astype(np.float64))
    )


@pytest.mark.parametrize("name", UNTRAINED)
@pytest.mark.parametrize("dtype", [np.float16, np.longdouble, np.uint16, np.uint64])
def test_triggers_on_rare_types(name, dtype):
    X, y = images(6, 11, 11, 3, dtype=dtype), np.arange(6) % 3
    stamped = make_attack(name).fit(X, y).transform(X)
    assert (stamped.dtype, stamped.shape) == (X.dtype, X.shape)
    assert (X.min() <= stamped).all()
    assert (stamped <= X.max()).all()
    assert (stamped != X).any()


@pytest.mark.parametrize("name", UNTRAINED)
def test_triggers_on_large_images(name):
    X, y = images(3, 512, 512), np.arange(3)
    stamped = make_attack(name).fit(X, y).transform(X)
    assert (stamped != X).reshape(3, -1).any(axis=1).sum() >= 2  # cba's donors may stay


# --- threads and global state


def test_predict_from_eight_threads():
    """`predict` is the same code in all classifiers."""
    X, y = images(60, 8, 8), np.arange(60) % 3
    clf = antibackdoor.ABLClassifier(**QUICK["ABLClassifier"], random_state=0).fit(X, y)
    parts = [X[start : start + 20] for start in range(0, 40, 2)]
    expected = [clf.predict_proba(part) for part in parts]
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(clf.predict_proba, parts))
    for one, other in zip(expected, at_once, strict=True):
        np.testing.assert_array_equal(one, other)


def global_state():
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": np.random.get_state()[1].tobytes(),
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "precision": torch.get_float32_matmul_precision(),
        "errors": np.geterr(),
    }


@pytest.mark.parametrize("outcome", ["fit", "refused", "diverged"])
def test_global_state_after_a_fit(make, outcome):
    X, y = images(40, 8, 8), np.arange(40) % 4
    before = global_state()
    if outcome == "fit":
        make().fit(X, y).predict(X)
    elif outcome == "refused":
        with pytest.raises(ValueError, match="layout"):
            make().fit(images(40, 8, 8, 8), y)
    else:
        with pytest.raises(FloatingPointError):
            make(learning_rate=1e38).fit(X, y)
    assert global_state() == before


@pytest.mark.parametrize("attack", [*UNTRAINED, Trojan(steps=1, surrogate_epochs=1)], ids=repr)
def test_global_state_after_poisoning(attack):
    X, y = images(40, 8, 8), np.arange(40) % 4
    before = global_state()
    make_poisoned(X, y, attack=attack, random_state=0)
    assert global_state() == before


# --- what the fuzz run found (benchmarks/fuzz.py)


TENSOR = torch.zeros(24, 8, 8, requires_grad=True)


@pytest.mark.parametrize("X", [TENSOR, [[10**400, 1.0]] * 24], ids=["gradients", "large"])
def test_what_numpy_cannot_convert(X):
    y = np.arange(24) % 3
    fitted = BadNets().fit(images(24, 8, 8), y)
    clf = antibackdoor.UndefendedClassifier(epochs=1)
    for refuse in (
        lambda: clf.fit(X, y),
        lambda: BadNets().fit(X, y),
        lambda: fitted.transform(X),
        lambda: make_poisoned(X, y),
    ):
        with pytest.raises(ValueError, match=r"\bX\b"):
            refuse()


def test_fractions_are_numbers():
    X = [[Fraction(row + column, 3) for column in range(4)] for row in range(24)]
    floats = np.array(X, dtype=np.float64)
    y = np.arange(24) % 3
    np.testing.assert_array_equal(BadNets().fit(X).transform(X), BadNets().fit_transform(floats))
    for one, other in zip(
        make_poisoned(X, y, random_state=0), make_poisoned(floats, y, random_state=0), strict=True
    ):
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda X, y: make_poisoned(X, y, poison_rate=10**400), "poison_rate"),
        (lambda X, y: make_poisoned(X, y, attack=WaNet(noise_ratio=10**400)), "noise_ratio"),
        (lambda X, y: make_poisoned(X, y, attack=WaNet(noise_ratio=1e308)), "noise_ratio"),
        (lambda X, y: make_poisoned(X, y, attack=WaNet(noise_ratio="two")), "noise_ratio"),
        (lambda X, y: BadNets(value_range=(0, 10**400)).fit(X), "value_range"),
        (lambda X, y: BadNets(image_shape=(8, 10**400)).fit(X), "image_shape"),
        (lambda X, y: WaNet(strength=10**400).fit(X), "WaNet"),
        (lambda X, y: lowest_asr_within(10**400), "tolerance"),
        (lambda X, y: make_retention_scorer(X, y, accuracy_weight=10**400), "accuracy_weight"),
    ],
)
def test_numbers_too_large_for_a_float(call, argument):
    with pytest.raises(ValueError, match=rf"\b{argument}\b"):
        call(images(24, 8, 8), np.arange(24) % 3)


@pytest.mark.parametrize(
    "parameter",
    [
        "learning_rate",
        "weight_decay",
        "detector__learning_rate",
        "detector__gamma",
        "cure__learning_rate",
        "cure__bound",
    ],
)
def test_parameters_too_large_for_a_weight(parameter):
    clf = antibackdoor.ABLClassifier(
        detector=LossRank(epochs=1), cure=Mixed(epochs=1, recovery_epochs=1), epochs=1
    ).set_params(**{parameter: 1e300})
    with pytest.raises(ValueError, match=rf"{parameter}=1e\+300; wanted"):
        clf.fit(images(24, 8, 8), np.arange(24) % 3)


@pytest.mark.parametrize(
    ("classifier", "changes", "dtype"),
    [
        # Steps that leave finite weights, whose logits are not.
        ("UndefendedClassifier", {"learning_rate": 1e30}, np.float64),
        ("UndefendedClassifier", {"weight_decay": 1e38}, np.uint8),
        ("CBDClassifier", {"bottleneck": 1e30}, np.uint8),
        # Weights without a singular value decomposition.
        ("CBDClassifier", {"learning_rate": 1e38}, np.float64),
    ],
)
def test_a_network_that_predicts_nothing_is_no_network(classifier, changes, dtype):
    X = images(24, 8, 8, dtype=dtype)
    X = X.reshape(24, 64) if dtype == np.float64 else X
    clf = getattr(antibackdoor, classifier)(
        **{**QUICK[classifier], "batch_size": 8, "random_state": 0, **changes}
    )
    with pytest.raises(FloatingPointError, match="not finite|converge"):
        clf.fit(X, np.arange(24) % 3)
    assert not hasattr(clf, "module_")


def test_a_batch_larger_than_any_data():
    X, y = images(24, 8, 8), np.arange(24) % 3
    huge, all_rows = (
        antibackdoor.UndefendedClassifier(epochs=1, batch_size=size, random_state=0).fit(X, y)
        for size in (10**30, 24)
    )
    np.testing.assert_array_equal(huge.predict_proba(X), all_rows.predict_proba(X))


def test_scores_that_are_no_row_of_numbers():
    with pytest.raises(ValueError, match="one value of each for every candidate"):
        lowest_asr_within()({"mean_test_ca": [0.9, 0.8], "mean_test_neg_asr": 0.5})


class Nothing:
    """A classifier that says 0."""

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


def test_labels_in_a_column_score_as_in_a_row():
    X, y = images(24, 8, 8), np.arange(24) % 3
    column = pd.DataFrame({"y": y})
    for scorer in (make_asr_scorer("badnets"), make_robust_accuracy_scorer("badnets")):
        assert scorer(Nothing(), X, column) == scorer(Nothing(), X, y)
    assert make_asr_scorer("badnets")(Nothing(), X, column) == -1


@pytest.mark.parametrize("mask", [None, np.arange(25) < 3])
@pytest.mark.parametrize(
    "scorer",
    [
        make_asr_scorer("badnets"),
        make_robust_accuracy_scorer("badnets"),
        make_clean_accuracy_scorer(),
    ],
    ids=repr,
)
def test_scorers_ask_for_as_many_labels_as_rows(scorer, mask):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        scorer(Nothing(), images(24, 8, 8), np.arange(25) % 3, poison_mask=mask)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, ",
        "{" * 99,
        "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999, 99999), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }",
    ],
    ids=["open-bracket", "brackets", "petabytes", "no-rows"],
)
def test_array_headers_that_are_damaged(header, tmp_path):
    text = header.ljust(117).encode() + b"\n"
    member = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    with zipfile.ZipFile(tmp_path / "hostile.npz", "w") as file:
        for name in ("X", "y"):
            file.writestr(f"{name}.npy", member)
    with pytest.raises(ValueError, match="damaged|cannot be read"):
        load_dataset(tmp_path / "hostile.npz")
