"""Triggers to the pixel, and the promises every attack that trains nothing makes."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from antibackdoor import load_model, save_model
from antibackdoor.attacks import (
    ATTACKS,
    SIG,
    AdaptiveBlend,
    BadNets,
    BaseAttack,
    Blend,
    Composite,
    LearnedAttack,
    WaNet,
    ensure_fitted,
    make_attack,
)

#: Those of the registry that train nothing: a new one is found there.
ALL = [kind() for kind in ATTACKS.values() if not issubclass(kind, LearnedAttack)]


def images(shape=(6, 12, 10, 3), dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, shape)
    return (values / 255).astype(dtype) if np.dtype(dtype).kind == "f" else values.astype(dtype)


def fit(attack, X):
    """Fit a clone, with the labels that some attacks ask for."""
    return clone(attack).fit(X, three_classes(X))


def three_classes(X):
    return np.arange(len(X)) % 3


# The checks are of tables: of those alone that take them.
@parametrize_with_checks(
    [
        *(attack for attack in ALL if not attack.needs_images),
        BadNets(pattern="white"),
        BadNets(label_map="all_to_all"),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# --- BadNets, pixel by pixel


def test_checkerboard_by_hand():
    X = np.full((2, 5, 4), 7, dtype=np.uint8)
    expected = [
        [7, 7, 7, 7],
        [7, 7, 7, 7],
        [7, 255, 0, 255],
        [7, 0, 255, 0],
        [7, 255, 0, 255],
    ]
    np.testing.assert_array_equal(BadNets().fit_transform(X), [expected, expected])


def test_white_square_by_hand():
    X = np.zeros((1, 3, 3), dtype=np.uint8)
    stamped = BadNets(pattern="white", size=2).fit_transform(X)
    np.testing.assert_array_equal(stamped[0], [[0, 0, 0], [0, 255, 255], [0, 255, 255]])


def test_even_checkerboard_is_bright_in_the_corner():
    stamped = BadNets(size=2).fit_transform(np.full((1, 2, 2), 9, dtype=np.uint8))
    np.testing.assert_array_equal(stamped[0], [[255, 0], [0, 255]])


def test_badnets_on_plain_features():
    X = np.array([[0.0, 2.0, 4.0, 6.0], [8.0, 1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(BadNets().fit_transform(X), [[0, 8, 0, 8], [8, 8, 0, 8]])
    np.testing.assert_array_equal(BadNets(size=9).fit_transform(X), [[0, 8, 0, 8]] * 2)


def test_patch_is_in_every_channel_and_nowhere_else():
    X = images()
    stamped = BadNets().fit_transform(X)
    np.testing.assert_array_equal(stamped[:, -3:, -3:, 0], stamped[:, -3:, -3:, 2])
    stamped[:, -3:, -3:] = X[:, -3:, -3:]
    np.testing.assert_array_equal(stamped, X)


# --- Blend


def test_blend_by_hand():
    X = np.array([[[100, 200], [0, 255]]], dtype=np.uint8)
    pattern = [[200, 100], [255, 0]]
    stamped = Blend(alpha=0.2, pattern=pattern).fit_transform(X)
    # 0.8 * 100 + 0.2 * 200 = 120; 160 + 20; 0.2 * 255 = 51; 0.8 * 255 = 204
    np.testing.assert_array_equal(stamped[0], [[120, 180], [51, 204]])


def test_blend_rounds_to_the_nearest():
    X = np.array([[[10]]], dtype=np.uint8)
    assert Blend(alpha=0.25, pattern=[[11]]).fit_transform(X).item() == 10  # 10.25
    assert Blend(alpha=0.25, pattern=[[13]]).fit_transform(X).item() == 11  # 10.75


@pytest.mark.parametrize("attack", [Blend, AdaptiveBlend])
@pytest.mark.parametrize(
    ("dtype", "pattern"), [(np.uint8, 256), (np.float32, 255), (np.float64, -1)]
)
def test_a_pattern_in_other_units_than_the_rows(attack, dtype, pattern):
    """It would turn them white or black."""
    rows = np.resize(np.array([0, 1], dtype=dtype), (2, 4, 4))
    with pytest.raises(ValueError, match=f"pattern holds values from {pattern:g} to .* wanted"):
        attack(pattern=np.full((4, 4), pattern)).fit(rows)


@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 3), (360,)])
def test_blend_takes_pattern_as_image_as_row_or_for_every_channel(shape):
    pattern = np.arange(np.prod(shape), dtype=float).reshape(shape) % 256
    X = images().reshape(6, -1)
    stamped = Blend(alpha=1, pattern=pattern, image_shape=(12, 10, 3)).fit_transform(X)
    expected = np.repeat(pattern, 3) if shape == (12, 10) else pattern.ravel()
    np.testing.assert_array_equal(stamped[0], expected)


def test_blend_pattern_follows_the_seed():
    X = images()
    first, again, other = (Blend(random_state=seed).fit(X).pattern_ for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 255


# --- SIG


def test_sig_by_hand():
    X = np.full((1, 2, 8), 100, dtype=np.uint8)
    wave = [0, 14, 20, 14, 0, -14, -20, -14]  # 20 sin(2 pi j / 8)
    np.testing.assert_array_equal(SIG(frequency=1).fit_transform(X)[0] - 100.0, [wave, wave])


def test_sig_saturates_and_does_not_wrap():
    X = np.array([[250] * 4, [5] * 4], dtype=np.uint8)
    stamped = SIG(frequency=1).fit_transform(X)
    np.testing.assert_array_equal(stamped, [[250, 255, 250, 230], [5, 25, 5, 0]])


def test_sig_delta_scales_with_the_range():
    X = np.full((1, 4), 0.5)
    stamped = SIG(delta=51, frequency=1, value_range=(0, 1)).fit_transform(X)
    np.testing.assert_allclose(stamped, [[0.5, 0.7, 0.5, 0.3]], atol=1e-12)


# --- WaNet


def test_wanet_reads_bilinearly_at_its_grid():
    X = images((2, 8, 9), np.float64)
    attack = WaNet().fit(X)
    stamped = attack.transform(X)
    row, column = attack.grid_[:, 4, 5]
    r, c = int(row), int(column)
    down, across = row - r, column - c
    by_hand = (
        (1 - down) * (1 - across) * X[:, r, c]
        + (1 - down) * across * X[:, r, c + 1]
        + down * (1 - across) * X[:, r + 1, c]
        + down * across * X[:, r + 1, c + 1]
    )
    np.testing.assert_allclose(stamped[:, 4, 5], by_hand, rtol=1e-12)


def test_wanet_grid_is_the_paper_s():
    """With one control point a pixel nothing is interpolated: identity + s * P / n."""
    X = images((1, 6, 6), np.float64)
    grid = WaNet(grid_size=6, strength=0.5).fit(X).grid_
    control = np.random.RandomState(0).uniform(-1, 1, size=(2, 6, 6))
    control /= np.abs(control).mean()
    identity = np.stack(np.meshgrid(*[np.linspace(-1, 1, 6)] * 2, indexing="ij"))
    expected = (np.clip(identity + 0.5 * control / 6, -1, 1) + 1) / 2 * 5
    np.testing.assert_allclose(grid, expected, atol=1e-12)


def test_wanet_leaves_flat_images_alone():
    X = np.full((3, 8, 8, 3), 200, dtype=np.uint8)
    attack = WaNet().fit(X)
    np.testing.assert_array_equal(attack.transform(X), X)
    np.testing.assert_array_equal(attack.transform_cover(X, random_state=0), X)


def test_wanet_cover_differs_from_the_trigger_and_row_from_row():
    X = np.repeat(images((1, 16, 16), np.float64), 2, axis=0)
    attack = WaNet().fit(X)
    cover = attack.transform_cover(X, random_state=0)
    assert not np.array_equal(cover, attack.transform(X))
    assert not np.array_equal(cover[0], cover[1])
    np.testing.assert_array_equal(cover, attack.transform_cover(X, random_state=0))
    assert not np.array_equal(cover, attack.transform_cover(X, random_state=1))


def test_wanet_needs_images():
    with pytest.raises(ValueError, match=r"image_shape=\(H, W\)"):
        WaNet().fit(np.zeros((3, 64)))


def test_wanet_cover_ratio():
    assert WaNet(noise_ratio=0.5).cover_ratio == 0.5


# --- the same promises for every attack


@pytest.mark.parametrize("attack", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(6, 28, 28), (6, 32, 32, 3), (6, 3, 32, 32), (6, 64, 64, 3), (6, 9, 14, 1)]
)
def test_new_array_of_same_dtype_and_shape(attack, dtype, shape):
    X = images(shape, dtype)
    before = X.copy()
    fitted = fit(attack, X)
    stamped = fitted.transform(X)
    assert type(stamped) is np.ndarray
    assert (stamped.dtype, stamped.shape) == (X.dtype, X.shape)
    assert not np.shares_memory(stamped, X)
    np.testing.assert_array_equal(X, before)
    low, high = fitted.value_range_
    assert low <= stamped.min()
    assert stamped.max() <= high
    changed = (stamped != X).reshape(len(X), -1).any(axis=1)
    assert changed[fitted.eligible(three_classes(X))].all()


@pytest.mark.parametrize("attack", ALL, ids=repr)
def test_rows_do_not_depend_on_each_other(attack):
    X = images((70, 32, 32, 3))  # more than one chunk
    fitted = fit(attack, X)
    stamped = fitted.transform(X)
    np.testing.assert_array_equal(fitted.transform(X[[5, 69]]), stamped[[5, 69]])


@pytest.mark.parametrize("attack", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_trigger_is_the_same_in_every_layout(attack, dtype):
    last = images(dtype=dtype)
    first = np.ascontiguousarray(np.moveaxis(last, -1, 1))
    flat = last.reshape(len(last), -1)
    stamped = fit(attack, last).transform(last)
    np.testing.assert_array_equal(np.moveaxis(fit(attack, first).transform(first), 1, -1), stamped)
    folding = clone(attack).set_params(image_shape=(12, 10, 3))
    folded = fit(folding, flat).transform(flat)
    np.testing.assert_array_equal(folded.reshape(stamped.shape), stamped)


@pytest.mark.parametrize("attack", ALL, ids=repr)
def test_non_contiguous_and_read_only_input(attack, tmp_path):
    X = images()
    expected = fit(attack, X).transform(X)
    stored = np.memmap(tmp_path / "X", dtype=X.dtype, mode="w+", shape=X.shape)
    stored[:] = X
    stored.flush()
    stored = np.memmap(tmp_path / "X", dtype=X.dtype, mode="r", shape=X.shape)
    stamped = fit(attack, stored).transform(stored)
    assert type(stamped) is np.ndarray
    np.testing.assert_array_equal(stamped, expected)
    column_major = np.asfortranarray(X)
    np.testing.assert_array_equal(fit(attack, X).transform(column_major), expected)
    np.testing.assert_array_equal(fit(attack, column_major).transform(X), expected)


@pytest.mark.parametrize("attack", ALL, ids=repr)
def test_same_seed_same_bytes(attack):
    X = images()
    first, again = (fit(attack, X).transform(X).tobytes() for _ in range(2))
    assert first == again


@pytest.mark.parametrize("attack", ALL, ids=repr)
def test_pickle_and_clone(attack):
    X = images()
    fitted = fit(attack, X)
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copied.transform(X), fitted.transform(X))
    with pytest.raises(NotFittedError):
        clone(fitted).transform(X)


@pytest.mark.parametrize("attack", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_training_rows_and_cover_rows(attack, dtype):
    X = images((70, 12, 10, 3), dtype)  # more than one chunk
    y = three_classes(X)
    fitted = fit(attack, X)
    methods = [fitted.transform_training]
    if attack.cover_ratio:
        methods.append(fitted.transform_cover)
    for method in methods:
        made, again = (method(X, y, random_state=0) for _ in range(2))
        np.testing.assert_array_equal(made, again)
        assert (made.dtype, made.shape) == (X.dtype, X.shape)
        assert not np.shares_memory(made, X)
        np.testing.assert_array_equal(X, images((70, 12, 10, 3), dtype))


def test_which_attacks_have_cover_rows():
    ratios = {type(attack).__name__: attack.cover_ratio for attack in ALL if attack.cover_ratio}
    assert ratios.items() >= {"AdaptiveBlend": 1, "Composite": 1, "WaNet": 2}.items()
    with pytest.raises(NotImplementedError, match="BadNets has no cover"):
        BadNets().fit(images()).transform_cover(images())


def test_training_rows_are_triggered_rows_unless_the_attack_says_otherwise():
    X = images()
    for attack in ALL:
        fitted = fit(attack, X)
        made = fitted.transform_training(X, three_classes(X), random_state=0)
        same = np.array_equal(made, fitted.transform(X))
        assert same == ("_stamp_training" not in vars(type(attack)))


@pytest.mark.parametrize("attack", ALL, ids=repr)
def test_a_fitted_attack_comes_back_from_a_file(attack, tmp_path):
    X = images()
    fitted = clone(attack).fit(X, np.arange(6) % 3)
    save_model(fitted, tmp_path / "attack.safetensors")
    copied = load_model(tmp_path / "attack.safetensors")
    np.testing.assert_array_equal(copied.transform(X), fitted.transform(X))


def test_value_range_is_seen_or_named():
    X = images(dtype=np.float32)
    assert BadNets().fit(X).value_range_ == (X.min(), X.max())
    assert BadNets().fit(images()).value_range_ == (0, 255)
    named = BadNets(value_range=(0, 2)).fit(X)
    assert named.value_range_ == (0, 2)
    assert named.transform(X)[0, -1, -1, 0] == 2


def outside(low, high, found):
    return rf"X holds values from {found[0]} to {found[1]}; \w+ wanted values from {low} to {high}"


@pytest.mark.parametrize("attack", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float32, np.float64])
def test_pixels_of_other_dtypes_get_the_same_to_rounding(attack, dtype):
    for value_range, X in (((0, 255), images()), ((0.5, 200.7), images().clip(1, 200))):
        y = three_classes(X)
        fitted = clone(attack).set_params(value_range=value_range).fit(X, y)
        most = 0.5 + 1e-4 if np.dtype(dtype).kind == "f" else 1
        assert (
            np.abs(fitted.transform(X).astype(float) - fitted.transform(X.astype(dtype))).max()
            <= most
        )
        methods = [fitted.transform_training]
        methods += [fitted.transform_cover] if fitted.cover_ratio else []
        for method in methods:
            pixels, others = (method(each, y, random_state=0) for each in (X, X.astype(dtype)))
            assert others.dtype == dtype
            assert np.abs(pixels.astype(float) - others).max() <= most
        # And the other way round: fitted on the other dtype, asked about pixels.
        swapped = clone(fitted).fit(X.astype(dtype), y)
        assert np.abs(swapped.transform(X).astype(float) - fitted.transform(X)).max() <= 1


@pytest.mark.parametrize("attack", ALL, ids=repr)
@pytest.mark.parametrize(
    ("fit_on", "value_range", "asked", "found"),
    [
        (lambda X: X, (0, 255), lambda X: X.astype(np.int16) * 16, (0, 4080)),
        (lambda X: X, (0, 255), lambda X: X / 127.5 - 4, (-4, -2)),
        (lambda X: X / 255, (0, 1), lambda X: X, (0, 255)),
        (lambda X: X / 255, (0, 1), lambda X: X / 1.0, (0, 255)),
        (lambda X: X / 255, (0, 1), lambda X: X / 127.5 - 1, (-1, 1)),
        (lambda X: X / 255, (0, 1), lambda X: (X / 255 * 1.01).astype(np.float32), (0, 1.01)),
        (lambda X: X / 255, None, lambda X: X / 1.0, (0, 255)),
        (lambda X: X / 255, None, lambda X: X / 127.5 - 1, (-1, 1)),
        (lambda X: X / 255, None, lambda X: X / 100 - 2, (-2, 0.55)),
        (lambda X: X / 1.0, None, lambda X: X * 16.0, (0, 4080)),
    ],
)
def test_rows_outside_the_range_are_refused(attack, fit_on, value_range, asked, found):
    """Cut to the range they would be black and white."""
    X = images()
    X[0].flat[:2] = 0, 255
    fitted = fit(clone(attack).set_params(value_range=value_range), fit_on(X))
    low, high = (f"{limit:g}" for limit in fitted.value_range_)
    methods = [fitted.transform, fitted.transform_training]
    methods += [fitted.transform_cover] if fitted.cover_ratio else []
    for method in methods:
        with pytest.raises(ValueError, match=outside(low, high, found)):
            method(asked(X), *([] if method == fitted.transform else [three_classes(X)]))


def test_rows_to_fit_on_outside_the_named_range():
    with pytest.raises(ValueError, match=outside(0, 1, (0, 255))):
        BadNets(value_range=(0, 1)).fit(np.array([[0, 255]], dtype=np.uint8))


@pytest.mark.parametrize("attack", ALL, ids=repr)
def test_new_rows_may_lie_somewhat_outside_the_range_that_fit_saw(attack):
    """As rows of a table do; what the trigger does not touch stays as it is."""
    X = images((6, 16, 16)) / 255
    fitted = fit(attack, X)
    wider = X * 1.4 - 0.2
    stamped = fitted.transform(wider)
    assert stamped.min() >= wider.min()
    assert stamped.max() <= wider.max()
    if isinstance(attack, BadNets):
        np.testing.assert_array_equal(stamped[:, :-3], wider[:, :-3])
    inside = np.clip(wider, *fitted.value_range_)
    if not isinstance(attack, Composite):  # chooses another donor for another row
        assert np.abs(stamped - fitted.transform(inside)).max() < 0.4


def test_every_parameter_has_an_effect():
    X = images((4, 12, 12)).clip(1, 200)
    changed = {
        BadNets: {"pattern": "white", "size": 4, "value_range": (1, 200)},
        Blend: {"alpha": 0.4, "pattern": X[0], "random_state": 1, "value_range": (1, 200)},
        SIG: {"delta": 30, "frequency": 5, "value_range": (1, 200)},
        WaNet: {"grid_size": 5, "strength": 1.0, "random_state": 1},
    }
    for attack, values in changed.items():
        plain = attack(frequency=1.5) if attack is SIG else attack()
        for name, value in values.items():
            other = clone(plain).set_params(**{name: value}).fit_transform(X)
            assert not np.array_equal(other, clone(plain).fit_transform(X)), (attack, name)


def test_layout_is_asked_for_where_it_is_not_certain():
    X = images((4, 3, 8, 3))
    with pytest.raises(ValueError, match="layout='channels_first'"):
        BadNets().fit(X)
    first = BadNets(layout="channels_first").fit_transform(X)
    assert (first[:, 0, :5] == X[:, 0, :5]).all()
    last = BadNets(layout="channels_last").fit_transform(X)
    assert not np.array_equal(first, last)


# --- registry


def test_make_attack():
    assert list(ATTACKS) == sorted(ATTACKS)
    untrained = {name for name, kind in ATTACKS.items() if not issubclass(kind, LearnedAttack)}
    assert untrained >= {"adaptive-blend", "badnets", "blend", "cba", "lf", "sig", "wanet"}
    for name, attack in ATTACKS.items():
        assert type(make_attack(name)) is attack
        assert issubclass(attack, BaseAttack)
    assert make_attack("blend", alpha=0.1).alpha == 0.1
    own = BadNets(target_label=3)
    assert make_attack(own) is own
    assert make_attack(own, target_label=3) is own


def test_ensure_fitted_leaves_what_it_is_given():
    X = images()
    attack = BadNets()
    fitted = ensure_fitted(attack, X)
    assert fitted is not attack
    assert not hasattr(attack, "value_range_")
    assert ensure_fitted(fitted, X) is fitted


def test_data_frame():
    X = pd.DataFrame(np.arange(12.0).reshape(3, 4), columns=list("abcd"))
    stamped = BadNets().fit(X).transform(X)
    assert stamped[0].tolist() == [0, 11, 0, 11]


# --- what goes wrong


@pytest.mark.parametrize(
    ("attack", "X", "match"),
    [
        (BadNets(size=9), images((2, 8, 8)), "size=9 is larger than the images"),
        (BadNets(size=3), images((2, 2, 8)), "size=3 is larger than the images"),
        (BadNets(size=0), images(), "'size' parameter of BadNets"),
        (BadNets(pattern="stripes"), images(), "'pattern' parameter of BadNets"),
        (BadNets(label_map="one_to_one"), images(), "'label_map' parameter of BadNets"),
        (BadNets(layout="sideways"), images(), "'layout' parameter of BadNets"),
        (BadNets(image_shape=(5, 5)), images((2, 24)), r"image_shape=\(5, 5\) holds 25"),
        (BadNets(target_label=[1]), images(), "'target_label' parameter of BadNets"),
        (BadNets(value_range=(1, 0)), images(), r"value_range=\(1, 0\)"),
        (BadNets(value_range=(0, 1, 2)), images(), r"value_range=\(0, 1, 2\)"),
        (BadNets(value_range=(0, 300)), images(), "dtype uint8, which cannot hold"),
        (Blend(alpha=0), images(), "'alpha' parameter of Blend"),
        (Blend(alpha=1.1), images(), "'alpha' parameter of Blend"),
        (Blend(alpha="a"), images(), "'alpha' parameter of Blend"),
        (Blend(pattern=np.zeros((3, 3))), images(), r"pattern has shape \(3, 3\)"),
        (Blend(pattern=[[np.nan]]), images((1, 1, 1)), "pattern contains NaN"),
        (Blend(random_state="x"), images(), "'random_state' parameter of Blend"),
        (SIG(delta=0), images(), "'delta' parameter of SIG"),
        (SIG(delta=256), images(), "'delta' parameter of SIG"),
        (SIG(frequency=-1), images(), "'frequency' parameter of SIG"),
        (WaNet(grid_size=1), images(), "'grid_size' parameter of WaNet"),
        (WaNet(grid_size=11), images(), "grid_size=11 is larger than the images"),
        (WaNet(strength=0), images(), "'strength' parameter of WaNet"),
        (WaNet(noise_ratio=-1), images(), "'noise_ratio' parameter of WaNet"),
        (BadNets(), np.zeros((2, 2, 2, 2, 2)), "array of 2, 3 or 4 axes"),
        (BadNets(), np.zeros(5), "Expected 2D array"),
        (BadNets(), np.empty((0, 4, 4)), "0 sample"),
        (BadNets(), [[0.0, np.nan]], "NaN"),
        (BadNets(), [[0.0, np.inf]], "infinity"),
        (BadNets(), [["a", "b"]], "arrays of bytes/strings"),
    ],
)
def test_bad_fit_leaves_the_attack_as_it_was(attack, X, match):
    before = dict(vars(attack))
    with pytest.raises((ValueError, TypeError), match=match):
        attack.fit(X)
    assert vars(attack) == before


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (images((2, 9, 8)), "9 features"),
        (images((2, 8, 9)), r"rows of shape \(8, 9\)"),
        (images((2, 8, 8), np.float32), "float32, but BadNets was fitted on uint8"),
        (np.full((1, 8, 8), np.nan), "NaN"),
    ],
)
def test_bad_transform(X, match):
    with pytest.raises(ValueError, match=match):
        BadNets().fit(images((2, 8, 8))).transform(X)


def test_transform_refuses_a_dtype_that_cannot_hold_the_range():
    attack = BadNets().fit(np.array([[0, 300, 5, 6]]))
    with pytest.raises(ValueError, match="int8, which cannot hold the value_range"):
        attack.transform(np.zeros((1, 4), dtype=np.int8))


def test_fit_checks_lengths():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        BadNets().fit(images(), [0, 1])


@pytest.mark.parametrize(
    ("attack", "params", "error", "match"),
    [
        ("badnet", {}, ValueError, "attack='badnet'.*'badnets', 'blend'"),
        (3, {}, TypeError, "attack is 3"),
        (BadNets, {}, TypeError, "attack is the class BadNets"),
        (BadNets(), {"target_label": 1}, ValueError, "target_label=1 contradicts"),
        (BadNets(), {"alpha": 1}, TypeError, "BadNets takes no parameter 'alpha'"),
        ("badnets", {"alpha": 1}, TypeError, "alpha"),
    ],
)
def test_bad_make_attack(attack, params, error, match):
    with pytest.raises(error, match=match):
        make_attack(attack, **params)
