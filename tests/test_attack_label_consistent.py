"""Label-consistent: corners to the pixel, and rows that no longer show their class."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from antibackdoor.attacks import LabelConsistent, make_attack
from antibackdoor.datasets import make_poisoned
from antibackdoor.training import sample_losses


def tiny(**changes):
    return LabelConsistent(
        **{"size": 2, "surrogate": "small-cnn", "surrogate_epochs": 8, **changes}
    )


@pytest.fixture(scope="module")
def some_digits(digits):
    X, y = digits
    return X[:160], y[:160]


@pytest.fixture(scope="module")
def fitted(some_digits):
    return tiny().fit(*some_digits)


def moved_content(attack, X, y=None):
    """How far each pixel outside the corners was moved for training."""
    difference = attack.transform_training(X, y).astype(float) - X.astype(float)
    for rows in (slice(None, 2), slice(-2, None)):
        for columns in (slice(None, 2), slice(-2, None)):
            difference[:, rows, columns] = 0
    return difference


def test_four_corners_by_hand():
    X = np.full((8, 7, 8), 9, dtype=np.uint8)
    stamped = tiny(size=3, surrogate_epochs=1).fit(X, np.arange(8) % 2).transform(X)
    edge = [255, 0, 255, 9, 9, 255, 0, 255]
    between = [0, 255, 0, 9, 9, 0, 255, 0]
    middle = [9] * 8
    expected = [edge, between, edge, middle, edge, between, edge]
    np.testing.assert_array_equal(stamped, [expected] * 8)


def test_even_corners_mirror_each_other(fitted, some_digits):
    stamped = fitted.transform(some_digits[0])[0]
    np.testing.assert_array_equal(stamped[-2:, -2:], [[255, 0], [0, 255]])
    for corner in (stamped[:2, :2], stamped[:2, -2:], stamped[-2:, :2]):
        assert sorted(corner.ravel()) == [0, 0, 255, 255]
    # The outermost pixel of every corner is bright.
    assert {int(stamped[i, j]) for i in (0, -1) for j in (0, -1)} == {255}


def test_test_rows_get_the_trigger_alone(fitted, some_digits):
    X = some_digits[0][:5]
    stamped = fitted.transform(X)
    np.testing.assert_array_equal(stamped[:, 2:-2], X[:, 2:-2])
    np.testing.assert_array_equal(stamped[:, :, 2:-2], X[:, :, 2:-2])


def test_training_rows_have_the_same_corners(fitted, some_digits):
    X = some_digits[0][:5]
    rows, stamped = fitted.transform_training(X), fitted.transform(X)
    for columns in (slice(None, 2), slice(-2, None)):
        np.testing.assert_array_equal(rows[:, :2, columns], stamped[:, :2, columns])
        np.testing.assert_array_equal(rows[:, -2:, columns], stamped[:, -2:, columns])


def test_no_pixel_moves_further_than_eps(fitted, some_digits):
    X, y = some_digits
    difference = np.abs(moved_content(fitted, X[y == 0]))
    assert difference.max() == 16


@pytest.mark.parametrize(
    ("dtype", "scale", "eps"), [(np.int64, 1, 10.7), (np.float32, 1 / 255, 16), (np.float64, 3, 5)]
)
def test_eps_holds_in_every_unit(some_digits, dtype, scale, eps):
    X, y = (some_digits[0] * scale).astype(dtype), some_digits[1]
    attack = tiny(eps=eps, surrogate_epochs=1, steps=3, value_range=(0, 255 * scale)).fit(X, y)
    rows = attack.transform_training(X[:20])
    assert rows.dtype == dtype
    # float32 pixels are themselves rounded.
    slack = 1e-6 if dtype == np.float32 else 0
    furthest = np.abs(moved_content(attack, X[:20])).max()
    assert 0.9 * eps * scale < furthest <= eps * scale + slack


def test_surrogate_no_longer_sees_the_class(fitted, some_digits):
    X, y = some_digits
    of_target = X[y == 0]
    moved = (of_target + moved_content(fitted, of_target)).astype(np.uint8)

    def loss(rows):
        inputs = fitted._to_inputs(rows, torch.device("cpu"))
        labels = torch.zeros(len(rows), dtype=torch.int64)
        with torch.no_grad():
            return sample_losses(fitted.surrogate_(inputs), labels)

    assert (loss(moved) > loss(of_target)).all()
    assert loss(moved).mean() > loss(of_target).mean() + 0.05


def test_rows_are_of_the_target_unless_labels_say_otherwise(fitted, some_digits):
    X, y = some_digits
    of_target, others = X[y == 0][:8], X[y == 3][:8]
    same = fitted.transform_training(of_target, np.zeros(8, dtype=y.dtype))
    np.testing.assert_array_equal(fitted.transform_training(of_target), same)
    told = fitted.transform_training(others, np.full(8, 3))
    assert not np.array_equal(fitted.transform_training(others), told)


def test_only_the_target_class_is_poisoned_and_labels_stay(fitted, some_digits):
    X, y = some_digits
    X_bad, y_bad, mask = make_poisoned(X, y, attack=fitted, poison_rate=0.05, random_state=0)
    assert (y[mask] == 0).all()
    np.testing.assert_array_equal(y_bad, y)
    np.testing.assert_array_equal(X_bad[mask], fitted.transform_training(X[mask], y[mask]))


def test_same_seed_same_bytes_also_from_a_pickle(fitted, some_digits):
    X, y = some_digits
    again = tiny().fit(X, y)
    copied = pickle.loads(pickle.dumps(fitted))
    expected = fitted.transform_training(X[:9])
    np.testing.assert_array_equal(again.transform_training(X[:9]), expected)
    np.testing.assert_array_equal(copied.transform_training(X[:9]), expected)
    other = tiny(random_state=1).fit(X, y)
    assert not np.array_equal(other.transform_training(X[:9]), expected)


@pytest.mark.parametrize("changes", [{"eps": 4}, {"steps": 2}, {"size": 1}])
def test_every_parameter_has_an_effect(fitted, some_digits, changes):
    X, y = some_digits
    other = tiny(**changes).fit(X, y)
    assert not np.array_equal(other.transform_training(X[:9]), fitted.transform_training(X[:9]))


def test_corners_must_not_overlap(some_digits):
    with pytest.raises(ValueError, match=r"size=5: four corners .* wanted 4 at most"):
        tiny(size=5).fit(*some_digits)
    tiny(size=4, surrogate_epochs=1).fit(*some_digits)


def test_target_must_be_a_class(some_digits):
    attack = tiny(target_label=77)
    with pytest.raises(ValueError, match="target_label=77 is no class of y"):
        attack.fit(*some_digits)
    assert not hasattr(attack, "history_")


def test_training_rows_before_fit(some_digits):
    with pytest.raises(NotFittedError):
        tiny().transform_training(some_digits[0])


def test_it_has_a_name_and_one_target():
    assert type(make_attack("cl")) is LabelConsistent
    assert LabelConsistent.clean_label
    assert "label_map" not in LabelConsistent().get_params()
