"""What every attack that trains a network of its own promises."""

from __future__ import annotations

import pickle
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from antibackdoor import load_model, save_model
from antibackdoor.attacks import ATTACKS, LearnedAttack, Trojan
from antibackdoor.datasets import make_poisoned

#: By what each is quick; all have one epoch of a small surrogate.
QUICK = {
    "adaptive-cbd": {"steps": 4},
    "cl": {"steps": 3},
    "dynamic": {"generator_epochs": 1},
    "fc": {"steps": 3, "size": 4},
    "lba": {"steps": 2},
    "trojan": {"steps": 2},
}
LEARNED = [name for name, attack in ATTACKS.items() if issubclass(attack, LearnedAttack)]


def images(shape=(40, 12, 12, 3), dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, shape)
    return (values / 255).astype(dtype) if np.dtype(dtype).kind == "f" else values.astype(dtype)


LABELS = np.arange(40) % 4


def make(name, **changes):
    settings = {"surrogate": "small-cnn", "surrogate_epochs": 1, **QUICK.get(name, {})}
    return ATTACKS[name](**{**settings, **changes})


@pytest.fixture(scope="module", params=LEARNED)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(name):
    """Each attack, fitted on uint8 images once for all tests that do not change it."""
    return make(name).fit(images(), LABELS)


def test_new_array_that_keeps_dtype_shape_and_range(fitted):
    X = images(seed=1)
    before = X.copy()
    stamped = fitted.transform(X)
    assert type(stamped) is np.ndarray
    assert (stamped.dtype, stamped.shape) == (X.dtype, X.shape)
    np.testing.assert_array_equal(X, before)
    assert (stamped != X).reshape(len(X), -1).any(axis=1).all()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((16, 28, 28), np.uint8),
        ((16, 3, 32, 32), np.float32),
        ((16, 9, 14, 1), np.float64),
    ],
)
def test_shapes_and_dtypes(name, shape, dtype):
    X = images(shape, dtype)
    attack = make(name).fit(X, LABELS[:16])
    stamped = attack.transform(X[:5])
    assert (stamped.dtype, stamped.shape) == (X.dtype, (5, *X.shape[1:]))
    low, high = attack.value_range_
    assert low <= stamped.min()
    assert stamped.max() <= high
    assert np.isfinite(stamped).all()


def test_pixels_of_other_dtypes_get_the_same_to_rounding(name):
    X = images()
    attack = make(name, value_range=(0, 255)).fit(X, LABELS)
    methods = [lambda X, y, random_state: attack.transform(X), attack.transform_training]
    methods += [attack.transform_cover] if attack.cover_ratio else []
    for method, dtype in product(methods, (np.int16, np.float32, np.float64)):
        pixels, others = (
            method(each[:6], LABELS[:6], random_state=0) for each in (X, X.astype(dtype))
        )
        assert others.dtype == dtype
        assert np.abs(pixels.astype(float) - others).max() <= 0.5 + 1e-4


def test_rows_outside_the_range(name):
    X = images((40, 12, 12, 3), np.float64)
    attack = make(name, value_range=(0, 1)).fit(X, LABELS)
    for other in (X * 255, X * 2 - 1, images()):
        with pytest.raises(ValueError, match="X holds values from .* wanted values from 0 to 1"):
            attack.transform(other[:2])
    # A range that was seen may be left somewhat, and what lies outside is not cut off.
    seen = make(name).fit(X, LABELS)
    wider = X[:4] * 1.4 - 0.2
    assert seen.transform(wider).min() < -0.1
    assert seen.transform(wider).max() > 1.1


def test_images_of_64_pixels(name):
    X = images((16, 64, 64, 3))
    stamped = make(name).fit(X, LABELS[:16]).transform(X[:2])
    assert (stamped.dtype, stamped.shape) == (X.dtype, (2, 64, 64, 3))
    assert (stamped != X[:2]).reshape(2, -1).any(axis=1).all()


def test_trigger_is_the_same_in_every_layout(name, fitted):
    X = images()
    stamped = fitted.transform(X)
    first = make(name).fit(np.moveaxis(X, -1, 1), LABELS).transform(np.moveaxis(X, -1, 1))
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), stamped)
    flat = make(name, image_shape=(12, 12, 3)).fit(X.reshape(40, -1), LABELS)
    np.testing.assert_array_equal(flat.transform(X.reshape(40, -1)), stamped.reshape(40, -1))


def test_rows_do_not_depend_on_each_other(fitted):
    X = np.concatenate([images(seed=seed) for seed in range(8)])  # more than one chunk
    stamped = fitted.transform(X)
    alone = fitted.transform(X[[3, 310]])
    # A convolution of another batch size may round the last bit of a float the other way.
    assert np.abs(alone.astype(int) - stamped[[3, 310]]).max() <= 1
    np.testing.assert_array_equal(alone == X[[3, 310]], stamped[[3, 310]] == X[[3, 310]])


def test_same_seed_same_bytes_and_no_trace_in_the_global_generators(name, fitted):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    X = images()
    again = make(name).fit(X, LABELS)
    assert again.transform(X).tobytes() == fitted.transform(X).tobytes()
    training = [
        attack.transform_training(X[:4], LABELS[:4], random_state=3).tobytes()
        for attack in (again, fitted)
    ]
    assert training[0] == training[1]
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


def test_pickle_holds_no_torch_and_clone_forgets(fitted):
    X = images()
    stored = pickle.dumps(fitted)
    assert b"torch" not in stored.replace(b"antibackdoor", b"")
    copied = pickle.loads(stored)
    np.testing.assert_array_equal(copied.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(
        copied.transform_training(X[:4], LABELS[:4], random_state=0),
        fitted.transform_training(X[:4], LABELS[:4], random_state=0),
    )
    with pytest.raises(NotFittedError):
        clone(fitted).transform(X)


def test_a_fitted_attack_comes_back_from_a_file(fitted, tmp_path):
    X = images()
    save_model(fitted, tmp_path / "attack.safetensors")
    copied = load_model(tmp_path / "attack.safetensors")
    np.testing.assert_array_equal(copied.transform(X), fitted.transform(X))


def test_make_poisoned(name, fitted):
    X = images()
    rate = 3 / 40
    X_bad, y_bad, poison_mask, cover_mask = make_poisoned(
        X, LABELS, attack=fitted, poison_rate=rate, random_state=0, return_cover=True
    )
    changed = (X_bad != X).reshape(len(X), -1).any(axis=1)
    np.testing.assert_array_equal(changed, poison_mask | cover_mask)
    assert poison_mask.sum() == 3
    assert cover_mask.sum() == round(3 * fitted.cover_ratio)
    assert not (poison_mask & cover_mask).any()
    np.testing.assert_array_equal(y_bad[~poison_mask], LABELS[~poison_mask])
    assert (y_bad[poison_mask] == 0).all()
    assert (LABELS[poison_mask] == 0).all() == fitted.clean_label


def test_history_and_progress(name):
    told = []

    class Listener:
        """The least that scikit-learn takes for a callback."""

        def setup(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context, **kwargs):
            pass

        def on_fit_task_end(self, estimator, context, **kwargs):
            told.append(context.task_name)

        def teardown(self, estimator, context):
            pass

    attack = make(name).set_callbacks(Listener()).fit(images(), LABELS)
    assert told.count("epoch") == len(attack.history_) > 0
    assert {"phase", "epoch", "objective", "loss", "accuracy"} <= set(attack.history_[0])


def test_a_failed_fit_leaves_the_attack_as_it_was(name, fitted):
    X, before = images(), fitted.transform(images())
    attack = pickle.loads(pickle.dumps(fitted))
    for bad_X, bad_y, match in [
        (X, None, "y"),
        (X, np.zeros(40), "one class"),
        (X, np.linspace(0, 1, 40), "not whole"),
        (X, LABELS + 7, "target_label=0"),
        (X.reshape(40, -1), LABELS, r"image_shape=\(H, W\)"),
        (X[:20], LABELS, "inconsistent"),
    ]:
        with pytest.raises((ValueError, TypeError), match=match):
            attack.fit(bad_X, bad_y)
        np.testing.assert_array_equal(attack.transform(X), before)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"surrogate": "resnet-of-mine"}, "resnet-of-mine"),
        ({"surrogate_epochs": 0}, "surrogate_epochs"),
        ({"device": "abacus"}, "device='abacus'"),
    ],
)
def test_bad_parameters_name_themselves(name, changes, match):
    with pytest.raises(ValueError, match=match):
        make(name, **changes).fit(images(), LABELS)


def test_not_fitted(name):
    with pytest.raises(NotFittedError):
        make(name).transform(images())


# --- Trojan


def test_trojan_excites_its_neuron_and_stays_in_its_corner():
    X = images()
    attack = Trojan(size=3, surrogate="small-cnn", surrogate_epochs=1, steps=20).fit(X, LABELS)
    without, with_patch = attack.activations_
    assert with_patch > without
    stamped = attack.transform(X)
    expected = np.moveaxis(np.rint(attack.pattern_), 0, -1)
    assert (stamped[:, -3:, -3:] == expected).all()
    stamped[:, -3:, -3:] = X[:, -3:, -3:]
    np.testing.assert_array_equal(stamped, X)


def test_trojan_patch_must_fit():
    with pytest.raises(ValueError, match="size=13 is larger"):
        Trojan(size=13).fit(images(), LABELS)
