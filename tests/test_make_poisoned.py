"""Which rows are poisoned, with what, and what stays as it was."""

import numpy as np
import pytest
from sklearn.base import clone

from antibackdoor.attacks import (
    ATTACKS,
    SIG,
    AdaptiveBlend,
    BadNets,
    Blend,
    LearnedAttack,
    LowFrequency,
    WaNet,
)
from antibackdoor.datasets import load_digits_images, make_poisoned
from antibackdoor.metrics import make_asr_scorer


def data(n=60, shape=(8, 8), dtype=np.uint8, n_classes=3):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (n, *shape)).astype(dtype)
    return X, np.arange(n) % n_classes


def test_digits():
    X, y = load_digits_images()
    assert (X.dtype, X.shape, y.dtype, y.shape) == (np.uint8, (1797, 8, 8), np.int64, (1797,))
    assert (X.min(), X.max()) == (0, 255)
    assert sorted(set(y)) == list(range(10))


#: The others are in test_learned_attacks.py, with settings that make them quick.
UNTRAINED = [name for name, attack in ATTACKS.items() if not issubclass(attack, LearnedAttack)]


@pytest.mark.parametrize("attack", UNTRAINED)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(8, 8), (9, 7, 3), (3, 16, 16)])
def test_masks_mark_exactly_the_changed_rows(attack, dtype, shape):
    X, y = data(shape=shape, dtype=dtype)
    X_before, y_before = X.copy(), y.copy()
    X_bad, y_bad, poison, cover = make_poisoned(
        X, y, attack=attack, random_state=0, return_cover=True
    )
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(y, y_before)
    assert not np.shares_memory(X_bad, X)
    assert not np.shares_memory(y_bad, y)
    assert (X_bad.dtype, X_bad.shape, y_bad.dtype) == (X.dtype, X.shape, y.dtype)
    assert (poison.dtype, cover.dtype) == (bool, bool)
    assert poison.sum() == 6
    changed = (X_bad != X).reshape(len(X), -1).any(axis=1)
    np.testing.assert_array_equal(changed, poison | cover)
    np.testing.assert_array_equal(y_bad[~poison], y[~poison])
    assert (y_bad[poison] == 0).all()


@pytest.mark.parametrize("attack", UNTRAINED)
def test_same_seed_same_bytes(attack):
    X, y = data()
    first, again, other = (
        make_poisoned(X, y, attack=attack, random_state=seed) for seed in (0, 0, 1)
    )
    assert [part.tobytes() for part in first] == [part.tobytes() for part in again]
    assert not np.array_equal(first[2], other[2])


def test_random_state_instance_and_global_generator():
    X, y = data()
    state = np.random.get_state()[1].copy()
    one = make_poisoned(X, y, random_state=np.random.RandomState(3))
    two = make_poisoned(X, y, random_state=3)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_stamps_are_the_attack_s_own():
    X, y = data()
    X_bad, _, poison = make_poisoned(X, y, attack="blend", random_state=5)
    np.testing.assert_array_equal(X_bad[poison], Blend().fit_transform(X[poison]))


def test_dirty_label_poison_comes_from_the_other_classes():
    X, y = data()
    _, y_bad, poison = make_poisoned(X, y, poison_rate=0.5, target_label=1, random_state=0)
    assert (y[poison] != 1).all()
    assert (y_bad[poison] == 1).all()


def test_clean_label_never_changes_a_label():
    X, y = data()
    for target in (0, 2):
        _, y_bad, poison = make_poisoned(X, y, attack="sig", target_label=target, random_state=0)
        np.testing.assert_array_equal(y_bad, y)
        assert (y[poison] == target).all()


def test_all_to_all():
    X, y = data()
    attack = BadNets(label_map="all_to_all")
    _, y_bad, poison = make_poisoned(X, y, attack=attack, poison_rate=0.9, random_state=0)
    np.testing.assert_array_equal(y_bad[poison], (y[poison] + 1) % 3)
    assert set(y[poison]) == {0, 1, 2}


def test_cover_rows_keep_their_label_and_are_apart():
    X, y = data()
    attack = WaNet(noise_ratio=1.5)
    X_bad, y_bad, poison, cover = make_poisoned(
        X, y, attack=attack, random_state=0, return_cover=True
    )
    assert (poison.sum(), cover.sum()) == (6, 9)
    assert not (poison & cover).any()
    np.testing.assert_array_equal(y_bad[cover], y[cover])
    triggered = attack.fit(X).transform(X)
    np.testing.assert_array_equal(X_bad[poison], triggered[poison])
    assert (X_bad[cover] != triggered[cover]).any()
    assert len(make_poisoned(X, y, attack=attack)) == 3


def test_rate_is_of_all_rows_and_at_least_one():
    X, y = data(n=61)
    assert make_poisoned(X, y, poison_rate=0.1)[2].sum() == 6
    assert make_poisoned(X, y, poison_rate=1e-9)[2].sum() == 1


def test_fitted_attack_is_used_as_it_is_and_unfitted_left_alone():
    X, y = data(dtype=np.float32)
    wider = np.resize(np.array([0, 300], dtype=np.float32), (1, 8, 8))
    fitted = BadNets().fit(wider)
    X_bad, _, poison = make_poisoned(X, y, attack=fitted, random_state=0)
    assert (X_bad[poison][:, -1, -1] == 300).all()
    unfitted = BadNets()
    make_poisoned(X, y, attack=unfitted)
    assert not hasattr(unfitted, "pattern_")


def test_target_of_the_attack_given():
    X, y = data()
    attack = BadNets(target_label=2)
    for kwargs in ({}, {"target_label": 2}):
        _, y_bad, poison = make_poisoned(X, y, attack=attack, **kwargs)
        assert (y_bad[poison] == 2).all()


@pytest.mark.parametrize("target", [0, 0.0, False, np.int64(0), 1, "3", "", np.nan])
def test_a_target_that_contradicts_the_attack(target):
    X, y = data()
    with pytest.raises(ValueError, match="target_label=.* contradicts the attack given"):
        make_poisoned(X, y, attack=BadNets(target_label=2), target_label=target)
    with pytest.raises(ValueError, match="target_label=.* contradicts the attack given"):
        make_asr_scorer(BadNets(target_label=2), target_label=target)


def test_zero_as_a_target_is_a_statement():
    X, y = data()
    for attack, target in ((BadNets(), 0), ("badnets", 0), ("badnets", None), (BadNets(), False)):
        _, y_bad, poison = make_poisoned(X, y, attack=attack, target_label=target)
        assert (y_bad[poison] == 0).all()


@pytest.mark.parametrize("scale", [None, np.float32(1), np.float64(1 / 255), np.float64(1e-12)])
@pytest.mark.parametrize(
    ("attack", "changes"),
    [
        (SIG(frequency=8), False),  # a wave that is 0 at every pixel, but for rounding
        (SIG(delta=0.2, frequency=1.3), False),
        (SIG(delta=2, frequency=1.3), True),
        (LowFrequency(delta=0.3), False),
        (LowFrequency(delta=3), True),
        (Blend(alpha=1e-9), False),
        (Blend(alpha=0.1), True),
        (AdaptiveBlend(training_alpha=1e-9), False),
        (WaNet(strength=1e-9, noise_ratio=0), False),
        (WaNet(noise_ratio=0), True),
        (BadNets(), True),
    ],
)
def test_a_trigger_that_changes_nothing_in_pixels_or_floats(attack, changes, scale):
    X, y = data()
    if scale is not None:
        X = X * scale
        attack = clone(attack).set_params(value_range=(0, 255 * float(scale)))
    if changes:
        assert make_poisoned(X, y, attack=attack, random_state=0)[2].sum() == 6
    else:
        with pytest.raises(ValueError, match="changes none of the 6 rows"):
            make_poisoned(X, y, attack=attack, random_state=0)


def test_cover_rows_of_floats_that_rounding_alone_has_changed():
    """A flat image that is warped is itself, but for the last digit."""
    X, y = np.full((60, 8, 8), 0.3), np.arange(60) % 3
    X[::2, 4, 4] = 1
    X_bad, _, poison, cover = make_poisoned(
        X, y, attack=WaNet(value_range=(0, 1)), return_cover=True, random_state=0
    )
    assert cover.any()
    assert not cover[1::2].any()
    np.testing.assert_array_equal((X_bad != X).any(axis=(1, 2)) & ~poison, cover)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "yes", "perhaps"]),
        np.array(["no", "yes", "perhaps"], dtype=object),
        np.array([3, 4, 5], dtype=np.int8),
        np.array([False, True, True]),
    ],
)
def test_labels_of_any_kind(labels):
    X, codes = data()
    y = labels[codes]
    target = labels[1]
    _, y_bad, poison = make_poisoned(X, y, target_label=target, random_state=0)
    assert y_bad.dtype == y.dtype
    assert all(label == target for label in y_bad[poison])
    np.testing.assert_array_equal(y_bad[~poison], y[~poison])


def test_lists_and_plain_features():
    X = [[float(i + j) for j in range(5)] for i in range(20)]
    X_bad, y_bad, poison = make_poisoned(X, ["a", "b"] * 10, target_label="a", random_state=0)
    assert X_bad.shape == (20, 5)
    np.testing.assert_array_equal(X_bad[poison][:, 2:], [[23, 0, 23]] * 2)
    assert (y_bad[poison] == "a").all()


def test_memmap_gives_ordinary_arrays(tmp_path):
    X, y = data()
    stored = np.memmap(tmp_path / "X", dtype=X.dtype, mode="w+", shape=X.shape)
    stored[:] = X
    stored.flush()
    stored = np.memmap(tmp_path / "X", dtype=X.dtype, mode="r", shape=X.shape)
    X_bad, _, _ = make_poisoned(stored, y, random_state=0)
    assert type(X_bad) is np.ndarray
    np.testing.assert_array_equal(X_bad, make_poisoned(X, y, random_state=0)[0])
    np.testing.assert_array_equal(stored, X)


def bad_calls():
    X, y = data()
    nan = X.astype(float)
    nan[0, 0, 0] = np.nan
    return [
        ((X, y), {"poison_rate": 0}, ValueError, "poison_rate=0"),
        ((X, y), {"poison_rate": 1}, ValueError, "poison_rate=1"),
        ((X, y), {"poison_rate": 1.2}, ValueError, r"poison_rate=1\.2"),
        ((X, y), {"poison_rate": -0.1}, ValueError, r"poison_rate=-0\.1"),
        ((X, y), {"poison_rate": float("nan")}, ValueError, "poison_rate=nan"),
        ((X, y), {"poison_rate": "lots"}, TypeError, "poison_rate='lots'"),
        ((X, y), {"poison_rate": True}, TypeError, "poison_rate=True"),
        ((X, y), {"poison_rate": None}, TypeError, "poison_rate=None"),
        ((X, y), {"poison_rate": 0.9}, ValueError, "54, but BadNets can poison only 40"),
        (
            (X, y),
            {"attack": "sig", "poison_rate": 0.4},
            ValueError,
            r"24, but SIG can poison only 20 .*target class",
        ),
        ((X, y), {"attack": "wanet", "poison_rate": 0.4}, ValueError, "48 more, but only 36"),
        ((X, y), {"attack": "nothing"}, ValueError, "attack='nothing'"),
        ((X, y), {"attack": None}, TypeError, "attack is None"),
        ((X, y), {"attack": BadNets}, TypeError, "attack is the class BadNets"),
        ((X, y), {"attack": BadNets(), "target_label": 1}, ValueError, "target_label=1 contra"),
        ((X, y), {"target_label": 9}, ValueError, r"target_label=9 is no class.*\[0, 1, 2\]"),
        ((X, y), {"target_label": "0"}, ValueError, "target_label='0' is no class"),
        ((X, y), {"target_label": [0, 1]}, TypeError, r"target_label=\[0, 1\]"),
        ((X, y), {"attack": BadNets(size=9)}, ValueError, "size=9 is larger"),
        ((X, y), {"attack": SIG(frequency=8)}, ValueError, "changes none of the 6 rows"),
        ((X, y), {"random_state": "x"}, ValueError, "cannot be used to seed"),
        ((X, y[:-1]), {}, ValueError, "X has 60 rows, but y has 59 labels"),
        ((X, y.reshape(30, 2)), {}, ValueError, "1d array"),
        ((X, y + 0.5), {}, ValueError, "y holds numbers that are not whole"),
        ((X, np.zeros(60)), {}, ValueError, "can poison only 0"),
        ((X[:0], y[:0]), {}, ValueError, "0 sample"),
        ((nan, y), {}, ValueError, "X contains NaN"),
        ((X.reshape(60, 2, 2, 2, 2, 4), y), {}, ValueError, "2, 3 or 4 axes"),
        ((X.reshape(60, 4, 4, 4), y), {}, ValueError, "layout='auto' cannot tell"),
        ((X.reshape(60, 64), y), {"attack": "wanet"}, ValueError, "image_shape"),
        ((X[0, 0], y[:8]), {}, ValueError, "Expected 2D array"),
        ((X.astype(str), y), {}, ValueError, "numeric|could not convert"),
    ]


@pytest.mark.parametrize(("args", "kwargs", "error", "match"), bad_calls())
def test_bad_input(args, kwargs, error, match):
    with pytest.raises(error, match=match):
        make_poisoned(*args, **kwargs)
