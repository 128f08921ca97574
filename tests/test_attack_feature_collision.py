"""Feature collision: rows whose features near those of patched images."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from antibackdoor.attacks import FeatureCollision, make_attack
from antibackdoor.attacks._feature_collision import _SeePatch, collision
from antibackdoor.datasets import make_poisoned


def tiny(**changes):
    settings = {"size": 3, "eps": 16, "beta": 0.01, "steps": 10, "surrogate": "small-cnn"}
    return FeatureCollision(**{**settings, "surrogate_epochs": 6, **changes})


@pytest.fixture(scope="module")
def some_digits(digits):
    X, y = digits
    return X[:160], y[:160]


@pytest.fixture(scope="module")
def fitted(some_digits):
    return tiny().fit(*some_digits)


def features(attack, rows):
    with torch.no_grad():
        return attack.surrogate_.features(attack._to_inputs(rows, torch.device("cpu"))).numpy()


def test_collision_by_hand():
    value = collision(
        torch.tensor([[1.0, 2.0], [0.0, 0.0]]),
        torch.tensor([[0.0, 0.0], [0.0, 3.0]]),
        torch.full((2, 1, 1, 2), 0.5),
        torch.zeros(2, 1, 1, 2),
        beta=2.0,
    )
    assert float(value) == (1 + 4) + 9 + 2.0 * (4 * 0.25)


def test_half_a_batch_bears_the_patch_and_is_a_class_more():
    seen = []

    def network(inputs):
        seen.append(inputs)
        return torch.zeros(len(inputs), 3)

    objective = _SeePatch(torch.ones(1, 1, 1), 2, torch.Generator().manual_seed(0))
    inputs = torch.zeros(5, 1, 2, 2)
    value, logits = objective(network, inputs, torch.zeros(5, dtype=torch.int64), torch.arange(5))
    strengths = seen[0][:, 0, 1, 1]
    assert ((strengths[:2] > 0) & (strengths[:2] < 1)).all()
    assert strengths[0] != strengths[1]
    assert not strengths[2:].any()
    assert not seen[0][:, 0, 0].any()
    assert not inputs.any()
    assert logits.shape == (5, 3)
    assert float(value) == pytest.approx(np.log(3), rel=1e-6)


def test_rows_come_near_the_images_they_collide_with(fitted, some_digits):
    X, y = some_digits
    base = X[y == 0]
    drawn = np.random.RandomState(5).randint(len(fitted.sources_), size=len(base))
    partners = fitted.sources_[drawn]
    moved = fitted.transform_training(base, random_state=5)
    before = np.square(features(fitted, base) - partners).sum(axis=1)
    after = np.square(features(fitted, moved) - partners).sum(axis=1)
    assert (after < before).all()
    assert after.mean() < 0.9 * before.mean()


def test_sources_are_patched_images_of_other_classes(fitted, some_digits):
    X, y = some_digits
    assert fitted.surrogate_.head.out_features == 11
    patched = features(fitted, fitted.transform(X[y != 0]))
    assert fitted.sources_.shape == patched.shape
    nearest = np.square(fitted.sources_[:, None] - patched).sum(axis=-1).min(axis=1)
    assert nearest.max() < 1e-8


def test_no_pixel_moves_further_than_eps(fitted, some_digits):
    X, y = some_digits
    moved = fitted.transform_training(X[y == 0], random_state=0)
    assert np.abs(moved.astype(int) - X[y == 0]).max() == 16


def test_beta_holds_rows_back(some_digits, fitted):
    X, y = some_digits
    base = X[y == 0]
    held = tiny(beta=1e6).fit(X, y).transform_training(base, random_state=0)
    free = fitted.transform_training(base, random_state=0)
    # Steps by the sign of the gradient swing by a step, 4 / 255, about where it holds them.
    assert np.abs(held.astype(int) - base).max() <= 4
    assert np.abs(free.astype(int) - base).max() == 16


def test_test_rows_get_the_patch_alone(fitted, some_digits):
    X = some_digits[0]
    stamped = fitted.transform(X)
    expected = np.array(X)
    expected[:, -3:, -3:] = [[255, 0, 255], [0, 255, 0], [255, 0, 255]]
    np.testing.assert_array_equal(stamped, expected)


def test_only_the_target_class_is_poisoned_and_labels_stay(fitted, some_digits):
    X, y = some_digits
    X_bad, y_bad, mask = make_poisoned(X, y, attack=fitted, poison_rate=0.05, random_state=0)
    assert (y[mask] == 0).all()
    np.testing.assert_array_equal(y_bad, y)
    assert (X_bad[mask] != X[mask]).any(axis=(1, 2)).all()


def test_random_state_draws_what_a_row_collides_with(fitted, some_digits):
    X = some_digits[0][:9]
    first, again, other = (fitted.transform_training(X, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_same_seed_same_bytes_also_from_a_pickle(fitted, some_digits):
    X, y = some_digits
    again = tiny().fit(X, y)
    copied = pickle.loads(pickle.dumps(fitted))
    expected = fitted.transform_training(X[:9], random_state=0)
    np.testing.assert_array_equal(again.transform_training(X[:9], random_state=0), expected)
    np.testing.assert_array_equal(copied.transform_training(X[:9], random_state=0), expected)
    other = tiny(random_state=1).fit(X, y)
    assert not np.array_equal(other.transform_training(X[:9], random_state=0), expected)


@pytest.mark.parametrize("changes", [{"eps": 4}, {"steps": 4}, {"size": 2}])
def test_every_parameter_has_an_effect(fitted, some_digits, changes):
    X, y = some_digits
    rows = tiny(**changes).fit(X, y).transform_training(X[:9], random_state=0)
    assert not np.array_equal(rows, fitted.transform_training(X[:9], random_state=0))


def test_refused_before_training(some_digits):
    with pytest.raises(ValueError, match="size=9 is larger than the images"):
        tiny(size=9).fit(*some_digits)
    attack = tiny(target_label=77)
    with pytest.raises(ValueError, match="target_label=77 is no class of y"):
        attack.fit(*some_digits)
    assert not hasattr(attack, "history_")


def test_training_rows_before_fit(some_digits):
    with pytest.raises(NotFittedError):
        tiny().transform_training(some_digits[0])


def test_it_has_a_name_and_one_target():
    assert type(make_attack("fc")) is FeatureCollision
    assert FeatureCollision.clean_label
    assert "label_map" not in FeatureCollision().get_params()
