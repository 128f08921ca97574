"""Composite: halves of two images, and whose label they bear."""

import pickle

import numpy as np
import pytest

from antibackdoor.attacks import Composite
from antibackdoor.datasets import make_poisoned

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (60, 6, 7, 3)).astype(np.uint8)
Y = np.arange(60) % 3


def test_left_half_is_its_own_and_right_half_a_donor_s():
    attack = Composite().fit(X, Y)
    made = attack.transform(X)
    np.testing.assert_array_equal(made[:, :, :3], X[:, :, :3])  # 7 wide: 3 and 4 columns
    of_class_one = {row.tobytes() for row in X[Y == 1][:, :, 3:]}
    assert {row.tobytes() for row in made[:, :, 3:]} <= of_class_one


def test_many_donors_are_used_and_no_others():
    rows = RNG.integers(0, 256, (2_000, 8, 8)).astype(np.uint8)
    attack = Composite(n_donors=5).fit(rows, np.arange(2_000) % 4)
    assert attack.donors_.shape == (5, 8, 8)
    halves, counts = np.unique(attack.transform(rows)[:, :, 4:], axis=0, return_counts=True)
    assert len(halves) == 5
    assert counts.min() > 300


def test_few_grey_levels_meet_all_donors_too():
    rows = 255 * RNG.integers(0, 2, (2_000, 8, 8)).astype(np.uint8)
    attack = Composite(n_donors=4).fit(rows, np.arange(2_000) % 4)
    assert len(np.unique(attack.transform(rows)[:, :, 4:], axis=0)) == 4


def test_donor_class():
    def donors_of(**params):
        donors = {row.tobytes() for row in Composite(**params).fit(X, Y).donors_}
        return [label for label in range(3) if donors <= {r.tobytes() for r in X[label == Y] * 1.0}]

    assert donors_of() == [1]
    assert donors_of(target_label=2) == [0]
    assert donors_of(donor_label=2) == [2]


def test_all_donors_where_there_are_few():
    attack = Composite(n_donors=64).fit(X, Y)
    assert len(attack.donors_) == 20
    assert len(np.unique(attack.donors_, axis=0)) == 20


def test_same_donor_in_every_dtype():
    whole = Composite(value_range=(0, 255)).fit(X, Y).transform(X)
    for dtype in (np.int64, np.float32, np.float64):
        made = Composite(value_range=(0, 255)).fit(X.astype(dtype), Y).transform(X.astype(dtype))
        np.testing.assert_array_equal(made, whole)
    unit = Composite(value_range=(0, 1)).fit(X / 255, Y).transform(X / 255)
    np.testing.assert_allclose(unit * 255, whole, atol=1e-9)


def test_fitted_on_uint8_and_given_floats():
    attack = Composite(value_range=(0, 255)).fit(X, Y)
    np.testing.assert_array_equal(attack.transform(X * 1.0), attack.transform(X))


def test_flat_images_have_a_donor():
    flat = np.full((4, 6, 6), 0.5)
    attack = Composite().fit(flat, [0, 1, 0, 1])
    np.testing.assert_array_equal(attack.transform(flat), flat)


def test_donor_class_keeps_its_label():
    attack = Composite(target_label="a")
    y = np.array(["c", "b", "a", "b", "c"])
    assert attack.transform_target(y).tolist() == ["a", "b", "a", "b", "a"]
    assert attack.eligible(y).tolist() == [True, False, False, False, True]
    assert attack.transform_target(y).dtype == y.dtype
    small = Composite(target_label=300)
    assert small.transform_target(np.array([1, 2], np.int8), classes=[1, 2, 300]).tolist() == [
        1,
        300,
    ]


def test_cover_rows_are_halves_of_one_class():
    attack = Composite().fit(X, Y)
    made = attack.transform_cover(X, Y, random_state=0)
    np.testing.assert_array_equal(made[:, :, :3], X[:, :, :3])
    owner = {row.tobytes(): number for number, row in enumerate(X[:, :, 3:])}
    partners = np.array([owner[row.tobytes()] for row in made[:, :, 3:]])
    np.testing.assert_array_equal(Y[partners], Y)
    assert (partners != np.arange(60)).all()
    other = attack.transform_cover(X, Y, random_state=1)
    assert not np.array_equal(other, made)


def test_cover_row_alone_in_its_class_stays():
    attack = Composite().fit(X, Y)
    made = attack.transform_cover(X[:3], [0, 1, 0], random_state=0)
    np.testing.assert_array_equal(made[1], X[1])
    np.testing.assert_array_equal(made[[0, 2], :, 3:], X[[2, 0], :, 3:])


def test_make_poisoned():
    attack = Composite(same_class_ratio=2)
    X_bad, y_bad, poison, cover = make_poisoned(
        X, Y, attack=attack, poison_rate=0.1, random_state=0, return_cover=True
    )
    assert (poison.sum(), cover.sum()) == (6, 12)
    assert (Y[poison] == 2).all()
    assert (y_bad[poison] == 0).all()
    np.testing.assert_array_equal(y_bad[~poison], Y[~poison])
    np.testing.assert_array_equal(X_bad[poison], attack.fit(X, Y).transform(X[poison]))


def test_every_parameter_has_an_effect():
    plain = Composite().fit(X, Y).transform(X)
    for changed in ({"donor_label": 2}, {"n_donors": 7}, {"random_state": 1}):
        assert not np.array_equal(Composite(**changed).fit(X, Y).transform(X), plain), changed
    assert Composite(same_class_ratio=0.5).cover_ratio == 0.5


def test_pickle():
    attack = Composite().fit(X, Y)
    copied = pickle.loads(pickle.dumps(attack))
    np.testing.assert_array_equal(copied.transform(X), attack.transform(X))


@pytest.mark.parametrize(
    ("params", "rows", "y", "match"),
    [
        ({}, X, None, "Composite requires y to be passed"),
        ({}, X, np.zeros(60), "donor class and the target class are both 0"),
        ({"donor_label": 0}, X, Y, "donor class and the target class are both 0"),
        ({"donor_label": 9}, X, Y, "donor_label=9 is no class"),
        ({"target_label": 9}, X, Y, "target_label=9 is no class"),
        ({"n_donors": 0}, X, Y, "'n_donors' parameter of Composite"),
        ({"same_class_ratio": -1}, X, Y, "'same_class_ratio' parameter of Composite"),
        ({}, X[:, :, :1], Y, "1 pixel wide"),
        ({}, X.reshape(60, -1), Y, r"Composite needs images.*image_shape=\(H, W\)"),
        ({}, X, Y + 0.5, "not whole"),
    ],
)
def test_bad_fit(params, rows, y, match):
    attack = Composite(**params)
    before = dict(vars(attack))
    with pytest.raises(ValueError, match=match):
        attack.fit(rows, y)
    assert vars(attack) == before


def test_bad_cover():
    attack = Composite().fit(X, Y)
    with pytest.raises(ValueError, match="Composite requires y"):
        attack.transform_cover(X)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        attack.transform_cover(X, Y[:5])
