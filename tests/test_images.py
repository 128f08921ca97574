"""scikit-learn's promises, made for images too: its own checks know only tables."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from antibackdoor import (
    ABLClassifier,
    Ascent,
    CBDClassifier,
    Joint,
    LossRank,
    Mixed,
    PoisonSearch,
    RelativeLoss,
    UndefendedClassifier,
)
from antibackdoor.training import Samples

# Which rows are read and what a prediction is called is decided in one place for all classifiers:
# one that goes through many phases tells of the first, the quickest one of the second.
READS = pytest.mark.parametrize("make_tiny", ["ABLClassifier"], indirect=True)
ANSWERS = pytest.mark.parametrize("make_tiny", ["UndefendedClassifier"], indirect=True)


@pytest.fixture(scope="module")
def grey(digits):
    """Images of four digits, uint8 (70, 8, 8), and their labels."""
    X, y = digits
    few = np.flatnonzero(y < 4)[:70]
    return X[few], y[few]


@pytest.fixture(scope="module")
def colour(grey):
    """The same in three channels that differ, uint8 (70, 8, 8, 3)."""
    X, y = grey
    return np.stack([X, 255 - X, X[:, ::-1]], axis=-1), y


def weights(estimator):
    return {name: tensor.numpy() for name, tensor in estimator.module_.state_dict().items()}


def assert_same_fit(one, other):
    """Bit for bit: the weights and who is suspected."""
    ours, theirs = weights(one), weights(other)
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    np.testing.assert_array_equal(one.isolate_scores_, other.isolate_scores_)
    np.testing.assert_array_equal(one.isolate_, other.isolate_)
    assert one.isolate_threshold_ == other.isolate_threshold_
    np.testing.assert_array_equal(one.classes_, other.classes_)


def parameters(estimator):
    """Parameters in a form that can be compared: nested objects are equal by theirs."""
    return {name: repr(value) for name, value in estimator.get_params().items()}


def readable(estimator):
    """Attributes in a form that can be compared, but for the time they took."""
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in estimator.history_]
    return {**parameters(estimator), "history_": history, "input_shape_": estimator.input_shape_}


# --- layouts and types


@READS
def test_layouts_of_colour(make_tiny, colour):
    X, y = colour
    first = np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    reference = make_tiny().fit(X, y)
    assert reference.input_shape_ == (8, 8, 3)
    probabilities = reference.predict_proba(X)
    others = [
        (make_tiny(), first, (3, 8, 8)),
        (make_tiny(layout="channels_last"), X, (8, 8, 3)),
        (make_tiny(layout="channels_first"), first, (3, 8, 8)),
        (make_tiny(image_shape=(8, 8, 3)), X, (8, 8, 3)),
        (make_tiny(image_shape=(8, 8, 3)), X.reshape(len(X), -1), (192,)),
        (make_tiny(image_shape=(3, 8, 8)), first.reshape(len(X), -1), (192,)),
        # The same pixels in memory of another order.
        (make_tiny(), first.transpose(0, 2, 3, 1), (8, 8, 3)),
    ]
    for estimator, rows, shape in others:
        estimator.fit(rows, y)
        assert (estimator.input_shape_, estimator.n_features_in_) == (shape, shape[0])
        assert_same_fit(estimator, reference)
        np.testing.assert_array_equal(estimator.predict_proba(rows), probabilities)


@READS
def test_layouts_of_grey(make_tiny, grey):
    X, y = grey
    reference = make_tiny().fit(X, y)
    assert (reference.input_shape_, reference.n_features_in_) == ((8, 8), 8)
    others = [
        (make_tiny(), X[..., None]),
        (make_tiny(), X[:, None]),
        (make_tiny(image_shape=(8, 8)), X.reshape(len(X), -1)),
        (make_tiny(image_shape=(8, 8, 1)), X.reshape(len(X), -1)),
        (make_tiny(image_shape=(1, 8, 8)), X.reshape(len(X), -1)),
    ]
    for estimator, rows in others:
        assert_same_fit(estimator.fit(rows, y), reference)
        np.testing.assert_array_equal(estimator.predict_proba(rows), reference.predict_proba(X))


def test_layout_matters(grey):
    """Rows and columns that change places are other images, or the tests above see nothing."""
    X, y = grey
    settings = {"epochs": 1, "backbone": "small-cnn", "random_state": 0}
    one, other = (UndefendedClassifier(**settings).fit(rows, y) for rows in (X, X[:, :, ::-1]))
    assert (one.predict_proba(X) != other.predict_proba(X[:, :, ::-1])).any()


@READS
def test_types_of_the_same_pixels(make_tiny, grey):
    X, y = grey
    reference = make_tiny().fit(X, y)
    probabilities = reference.predict_proba(X)
    for rows in (
        X.astype(np.float32) / np.float32(255),
        X / 255.0,
        (X / 255.0).tolist(),
        np.asfortranarray(X),
    ):
        estimator = make_tiny().fit(rows, np.asarray(y).tolist())
        assert_same_fit(estimator, reference)
        np.testing.assert_array_equal(estimator.predict_proba(rows), probabilities)


@READS
def test_lists_of_whole_numbers_are_floats(make_tiny, grey):
    """Only uint8 is scaled: other whole numbers are values, which the network normalises."""
    X, y = grey
    as_list, as_float = make_tiny().fit(X.tolist(), y), make_tiny().fit(X.astype(float), y)
    assert_same_fit(as_list, as_float)
    np.testing.assert_allclose(
        as_list.predict_proba(X.tolist()), make_tiny().fit(X, y).predict_proba(X), atol=0.02
    )


@READS
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_mapped_file(make_tiny, colour, tmp_path, dtype):
    X, y = colour
    X = X if dtype == np.uint8 else (X / 255).astype(dtype)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    in_memory, from_file = make_tiny().fit(X, y), make_tiny().fit(mapped, y)
    assert_same_fit(from_file, in_memory)
    np.testing.assert_array_equal(from_file.predict_proba(mapped), in_memory.predict_proba(X))


@READS
def test_mapped_file_is_not_read_at_once(make_tiny, grey, tmp_path, monkeypatch):
    X, y = grey
    np.save(tmp_path / "X.npy", X)
    resident = []

    start = Samples.__init__

    def spy(samples, *args, **kwargs):
        start(samples, *args, **kwargs)
        resident.append(kwargs["resident"])

    monkeypatch.setattr(Samples, "__init__", spy)
    make_tiny().fit(X, y).predict(X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    make_tiny().fit(mapped, y).predict(mapped)
    # Prediction reads each row once, wherever it is.
    assert resident == [True, False, False, False]


@READS
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_data_is_only_read(make_tiny, colour, dtype):
    X, y = (array.copy() for array in colour)
    X = X if dtype == np.uint8 else (X / 255).astype(dtype)
    X_before, y_before = X.copy(), y.copy()
    writable = make_tiny().fit(X, y)
    writable.predict(X)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(y, y_before)
    X.setflags(write=False)
    y.setflags(write=False)
    locked = make_tiny().fit(X, y)
    assert_same_fit(locked, writable)
    np.testing.assert_array_equal(locked.predict_proba(X), writable.predict_proba(X))


# --- labels and predictions


@ANSWERS
@pytest.mark.parametrize(
    "labels",
    [
        np.array([-70, 3, 8, 10**12]),
        np.array(["ant", "bee", "cat", "dog"]),
        np.array(["ant", "bee", "cat", "dog"], dtype=object),
        np.array([0.0, 1.0, 5.0, 9.0]),
        np.array([2, 5, 7, 250], dtype=np.uint8),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels_of_any_kind(make_tiny, grey, labels):
    X, y = grey
    plain, named = make_tiny().fit(X, y), make_tiny().fit(X, labels[y])
    np.testing.assert_array_equal(named.classes_, labels)
    assert named.predict(X).dtype == labels.dtype
    np.testing.assert_array_equal(named.predict(X), labels[plain.predict(X)])
    np.testing.assert_array_equal(named.predict_proba(X), plain.predict_proba(X))
    assert named.score(X, labels[y]) == plain.score(X, y)


@ANSWERS
def test_two_classes(make_tiny, grey):
    X, y = grey
    truth = y < 2
    estimator = make_tiny().fit(X, truth)
    assert estimator.classes_.tolist() == [False, True]
    margin, probabilities = estimator.decision_function(X), estimator.predict_proba(X)
    assert margin.shape == (len(X),)
    assert estimator.predict(X).dtype == bool
    np.testing.assert_array_equal(estimator.predict(X), margin > 0)
    np.testing.assert_allclose(probabilities[:, 1], 1 / (1 + np.exp(-margin)), rtol=1e-6)


@ANSWERS
def test_class_order_is_that_of_the_columns(make_tiny, grey):
    X, y = grey
    # Against the order in which they appear, and against that of the digits.
    labels = np.array(["d", "c", "b", "a"])[y]
    estimator = make_tiny().fit(X, labels)
    assert estimator.classes_.tolist() == ["a", "b", "c", "d"]
    logits, probabilities = estimator.decision_function(X), estimator.predict_proba(X)
    assert logits.shape == probabilities.shape == (len(X), 4)
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(estimator.predict(X), estimator.classes_[logits.argmax(1)])
    np.testing.assert_array_equal(estimator.predict(X), estimator.classes_[probabilities.argmax(1)])


@ANSWERS
def test_probabilities_are_those_of_the_module(make_tiny, grey):
    X, y = grey
    estimator = make_tiny().fit(X, y)
    assert not estimator.module_.training
    with torch.no_grad():
        logits = estimator.module_(torch.from_numpy(X / 255.0).float()[:, None])
    np.testing.assert_allclose(
        estimator.predict_proba(X), logits.double().softmax(1).numpy(), atol=1e-5
    )


@ANSWERS
def test_one_row_or_many(make_tiny, colour):
    X, y = colour
    estimator = make_tiny().fit(X, y)
    together = estimator.predict_proba(X)
    alone = np.concatenate([estimator.predict_proba(X[row : row + 1]) for row in range(20)])
    np.testing.assert_allclose(alone, together[:20], atol=1e-5)
    backwards = estimator.predict_proba(X[::-1])
    np.testing.assert_allclose(backwards[::-1], together, atol=1e-5)


@pytest.mark.parametrize("n_rows", [33, 37, 65])
def test_last_batch_of_one(make_tiny, grey, n_rows):
    """Batch norm of one feature vector has no variance: 33 = 32 + 1, and 37 less a tenth."""
    X, y = grey
    backbone = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)
    )
    estimator = make_tiny(backbone=backbone, batch_size=32).fit(X[:n_rows], y[:n_rows])
    assert estimator.predict(X).shape == (len(X),)
    assert len(estimator.isolate_scores_) == n_rows


# --- who is suspected


@pytest.mark.filterwarnings("ignore:.*has not searched for poison:UserWarning")
@pytest.mark.parametrize(
    "estimator",
    [
        ABLClassifier(detector=LossRank(ratio=0.1, epochs=2), cure=Ascent(), epochs=2),
        ABLClassifier(detector=LossRank(ratio=0.1, epochs=2), cure=Joint(), epochs=2),
        ABLClassifier(
            detector=LossRank(ratio=0.1, epochs=2),
            cure=Mixed(epochs=2, recovery_epochs=1),
            epochs=2,
        ),
        ABLClassifier(detector=PoisonSearch(epochs=2), epochs=2),
        CBDClassifier(
            detector=LossRank(ratio=None, epochs=2),
            weighting=RelativeLoss(rejection=0.9),
            epochs=2,
        ),
        CBDClassifier(
            detector=LossRank(ratio=None, epochs=2),
            weighting=RelativeLoss(rejection=0.0),
            epochs=2,
        ),
        CBDClassifier(detector=PoisonSearch(epochs=2), epochs=2),
        UndefendedClassifier(epochs=2),
    ],
    ids=[
        *("ascent", "joint", "mixed", "search"),
        *("rejection", "no-rejection", "searched"),
        "undefended",
    ],
)
def test_isolate_family(estimator, grey):
    X, y = grey
    estimator = clone(estimator).set_params(random_state=0, batch_size=32).fit(X, y)
    scores, mask, indices = (
        estimator.isolate_scores_,
        estimator.isolate_mask_,
        estimator.isolate_,
    )
    assert (scores.dtype, mask.dtype, indices.dtype) == (np.float64, bool, np.int64)
    assert scores.shape == mask.shape == (len(X),)
    assert type(estimator.isolate_threshold_) is float
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(mask, scores > estimator.isolate_threshold_)
    order = np.argsort(-scores, kind="stable")
    np.testing.assert_array_equal(indices, order[mask[order]])
    np.testing.assert_array_equal(np.sort(indices), np.flatnonzero(mask))
    if isinstance(getattr(estimator, "cure", None), Ascent | Joint):
        assert len(indices) == 7
    weighting = getattr(estimator, "weighting", None)
    if weighting is not None:
        assert (0 < len(indices) < len(X)) == (weighting.rejection > 0)
    searched = isinstance(getattr(estimator, "detector", None), PoisonSearch)
    if searched or isinstance(estimator, UndefendedClassifier):
        assert len(indices) == 0


# --- copies


def test_clone(make_tiny, grey):
    X, y = grey
    fitted = make_tiny().fit(X, y)
    cloned = clone(fitted)
    assert parameters(cloned) == parameters(fitted)
    assert not hasattr(cloned, "module_") and not hasattr(cloned, "classes_")
    assert_same_fit(cloned.fit(X, y), fitted)


def through_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator):
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize("kind", ["grey", "flattened"])
def test_copies(make_tiny, grey, colour, kind):
    X, y = grey if kind == "grey" else colour
    changes = {}
    if kind == "flattened":
        X, changes = X.reshape(len(X), -1), {"image_shape": (8, 8, 3)}
    estimator = make_tiny(**changes).fit(X, y)
    for through in (through_pickle, through_joblib, copy.deepcopy, copy.copy):
        state = torch.get_rng_state()
        copied = through(estimator)
        assert torch.get_rng_state().equal(state)
        assert_same_fit(copied, estimator)
        np.testing.assert_array_equal(copied.predict_proba(X), estimator.predict_proba(X))
        assert readable(copied) == readable(estimator)
        assert not copied.module_.training
        np.testing.assert_array_equal(copied.isolate_mask_, estimator.isolate_mask_)
        np.testing.assert_array_equal(through(copied).predict(X), estimator.predict(X))
    assert_same_fit(copied.fit(X, y), estimator)


def test_unfitted_copies(make_tiny):
    estimator = make_tiny()
    for through in (through_pickle, through_joblib, copy.deepcopy):
        copied = through(estimator)
        assert vars(copied).keys() == vars(estimator).keys()
        assert parameters(copied) == parameters(estimator)


@ANSWERS
def test_deep_copy_shares_no_weights(make_tiny, grey):
    X, y = grey
    estimator = make_tiny().fit(X, y)
    before = estimator.predict_proba(X)
    with torch.no_grad():
        for parameter in copy.deepcopy(estimator).module_.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(estimator.predict_proba(X), before)


def things_in(value):
    yield value
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from things_in(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from things_in(item)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from things_in(vars(value))


@ANSWERS
def test_state_holds_nothing_of_torch(make_tiny, colour):
    X, y = colour
    estimator = make_tiny().fit(X, y)
    found = list(things_in(estimator.__getstate__()))
    assert any(isinstance(thing, np.ndarray) and thing.ndim == 4 for thing in found)
    assert [thing for thing in found if type(thing).__module__.startswith("torch")] == []
    assert hasattr(estimator, "module_")  # asking for the state takes nothing away
    assert b"torch" not in pickle.dumps(estimator)


@ANSWERS
def test_parameters_set_after_fit_wait_for_the_next(make_tiny, grey):
    X, y = grey
    rows = X.reshape(len(X), -1)
    estimator = make_tiny(image_shape=(8, 8)).fit(rows, y)
    before = estimator.predict_proba(rows)
    estimator.set_params(backbone="mlp", image_shape=None, layout="channels_first")
    np.testing.assert_array_equal(estimator.predict_proba(rows), before)
    np.testing.assert_array_equal(through_pickle(estimator).predict_proba(rows), before)
    assert_same_fit(
        estimator.fit(rows, y), make_tiny(backbone="mlp", layout="channels_first").fit(rows, y)
    )


@pytest.mark.parametrize("n_epochs", range(1, 6))
@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant", (1,), np.array([1, 3])])
def test_few_steps(grey, schedule, n_epochs):
    """A schedule holds for any number of steps, be it one, two or three."""
    X, y = grey
    estimator = UndefendedClassifier(
        epochs=n_epochs, backbone="mlp", lr_schedule=schedule, random_state=0
    ).fit(X, y)
    rates = [row["learning_rate"] for row in estimator.history_]
    assert len(rates) == n_epochs
    assert min(rates) > 0 and max(rates) <= 0.1


# --- randomness


def test_same_seed_same_bits(make_tiny, colour):
    X, y = colour
    one, other = make_tiny().fit(X, y), make_tiny().fit(X, y)
    assert_same_fit(one, other)
    np.testing.assert_array_equal(one.decision_function(X), other.decision_function(X))
    assert readable(one) == readable(other)
    by_generator = make_tiny(random_state=np.random.RandomState(0)).fit(X, y)
    assert_same_fit(by_generator, one)


@READS
def test_augmentation_follows_the_seed(make_tiny, colour):
    X, y = colour
    augment = ("crop", "flip", "cutout")
    one, other = (make_tiny(augment=augment).fit(X, y) for _ in range(2))
    assert_same_fit(one, other)
    plain = make_tiny().fit(X, y)
    assert any((weights(one)[name] != array).any() for name, array in weights(plain).items())


@ANSWERS
def test_other_seed_other_weights(make_tiny, colour):
    X, y = colour
    one, other = make_tiny(random_state=0).fit(X, y), make_tiny(random_state=1).fit(X, y)
    assert (weights(one)["head.weight"] != weights(other)["head.weight"]).any()
    assert (one.predict_proba(X) != other.predict_proba(X)).any()


def test_global_generators_are_left_alone(make_tiny, colour):
    X, y = colour
    torch.manual_seed(123)
    np.random.seed(123)
    estimator = make_tiny(augment=("crop", "flip", "cutout"))
    for call in (
        lambda: estimator.fit(X, y),
        lambda: estimator.predict(X),
        lambda: estimator.predict_proba(X),
        lambda: through_pickle(estimator),
    ):
        torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()
        call()
        assert torch.get_rng_state().equal(torch_before)
        numpy_after = np.random.get_state()
        np.testing.assert_array_equal(numpy_after[1], numpy_before[1])
        assert numpy_after[2:] == numpy_before[2:]
    first = weights(estimator)
    torch.manual_seed(7)
    np.random.seed(7)
    estimator.fit(X, y)
    assert all((weights(estimator)[name] == array).all() for name, array in first.items())


# --- fitting again


def test_module_of_the_user_is_left_alone(make_tiny, grey):
    X, y = grey
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)
    ).eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    layers = list(module)
    estimator = make_tiny(backbone=module).fit(X, y)
    assert estimator.backbone is module
    assert list(module) == layers
    assert not module.training
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(len(layer._forward_hooks) == 0 for layer in module.modules())
    after = module.state_dict()
    assert all(after[name].equal(tensor) for name, tensor in before.items())
    # It was trained: as a copy, from the weights that it has.
    assert not estimator.module_.head.weight.equal(module[-1].weight)
    assert_same_fit(make_tiny(backbone=module).fit(X, y), estimator)
    np.testing.assert_array_equal(through_pickle(estimator).predict(X), estimator.predict(X))


def test_second_fit_starts_anew(make_tiny, grey, colour):
    estimator = make_tiny().fit(*colour)
    X, y = grey
    X, labels = X[:50], np.array(["a", "b", "a", "b"])[y[:50]]
    fresh = make_tiny().fit(X, labels)
    assert estimator.fit(X, labels) is estimator
    assert_same_fit(estimator, fresh)
    assert readable(estimator) == readable(fresh)
    assert sorted(vars(estimator)) == sorted(vars(fresh))
    assert estimator.n_features_in_ == fresh.n_features_in_ == 8


@ANSWERS
def test_predict_keeps_nothing(make_tiny, grey):
    X, y = grey
    estimator = make_tiny().fit(X, y)
    before = dict(vars(estimator))
    bits = weights(copy.deepcopy(estimator))
    for method in ("predict", "predict_proba", "decision_function"):
        first, second = getattr(estimator, method)(X), getattr(estimator, method)(X)
        np.testing.assert_array_equal(first, second)
    estimator.score(X, y)
    assert all(vars(estimator)[name] is value for name, value in before.items())
    assert vars(estimator).keys() == before.keys()
    assert all((weights(estimator)[name] == array).all() for name, array in bits.items())


@READS
def test_pixels_and_floats_are_not_mixed_up(make_tiny, grey):
    X, y = grey
    clf = make_tiny().fit(X, y)
    with pytest.raises(ValueError, match="X is not uint8"):
        clf.predict(X.astype(np.int64))
    clf.fit(X.astype(np.float32), y)
    with pytest.raises(ValueError, match="X is uint8"):
        clf.predict(X)
