"""Latent backdoor: a patch that brings features near those of the class wanted."""

import pickle

import numpy as np
import pytest
import torch

from antibackdoor.attacks import LatentBackdoor, make_attack
from antibackdoor.attacks._latent import _class_means
from antibackdoor.attacks._patch import paste
from antibackdoor.datasets import make_poisoned


def tiny(**changes):
    settings = {"size": 3, "steps": 20, "surrogate": "small-cnn", "surrogate_epochs": 8}
    return LatentBackdoor(**{**settings, **changes})


@pytest.fixture(scope="module")
def some_digits(digits):
    X, y = digits
    return X[:500], y[:500]


@pytest.fixture(scope="module")
def fitted(some_digits):
    return tiny().fit(*some_digits)


def test_paste_leaves_its_argument_and_lets_gradients_pass():
    images, patch = torch.zeros(2, 1, 3, 3), torch.ones(1, 2, 2, requires_grad=True)
    pasted = paste(images, patch)
    assert pasted[1, 0].tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 1]]
    assert not images.any()
    (3 * pasted).sum().backward()
    assert patch.grad.tolist() == [[[6, 6], [6, 6]]]


def test_class_means_by_hand():
    class Network:
        def eval(self):
            return self

        def features(self, inputs):
            return inputs[:, :2]

    class Samples:
        device = torch.device("cpu")

        def __len__(self):
            return 3

        def chunks(self, rows=None):
            yield torch.tensor([[1.0, 0.0, 9.0], [3.0, 4.0, 9.0]])
            yield torch.tensor([[5.0, 7.0, 9.0]])

    class Study:
        samples, classes, labels = Samples(), np.array(["a", "b"]), torch.tensor([0, 0, 1])

    assert _class_means(Network(), Study()).tolist() == [[2, 2], [5, 7]]


def test_distance_falls(fitted):
    before, after = fitted.distances_
    assert 0 < after < 0.9 * before


def test_more_steps_come_nearer(some_digits, fitted):
    first_step = tiny(steps=1).fit(*some_digits)
    assert first_step.distances_[0] == fitted.distances_[0]
    assert fitted.distances_[1] < first_step.distances_[1]


def test_square_replaces_the_corner_and_nothing_else(fitted, some_digits):
    X = some_digits[0]
    stamped = fitted.transform(X)
    assert fitted.pattern_.shape == (1, 3, 3)
    corner = np.rint(fitted.pattern_[0]).astype(np.uint8)
    np.testing.assert_array_equal(stamped[:, -3:, -3:], np.broadcast_to(corner, (len(X), 3, 3)))
    stamped[:, -3:, -3:] = X[:, -3:, -3:]
    np.testing.assert_array_equal(stamped, X)
    assert fitted.pattern_.min() >= 0
    assert fitted.pattern_.max() <= 255


def test_colours_may_differ():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (40, 12, 12, 3), dtype=np.uint8)
    attack = tiny(surrogate_epochs=1).fit(X, np.arange(40) % 3)
    assert attack.pattern_.shape == (3, 3, 3)
    assert not np.array_equal(attack.pattern_[0], attack.pattern_[1])


def test_labels_become_the_target(fitted, some_digits):
    X, y = some_digits
    X_bad, y_bad, mask = make_poisoned(X, y, attack=fitted, poison_rate=0.1, random_state=0)
    assert (y[mask] != 0).all()
    assert (y_bad[mask] == 0).all()
    np.testing.assert_array_equal(X_bad[mask], fitted.transform(X[mask]))


def test_square_hangs_on_the_class_wanted(some_digits):
    X, y = some_digits[0][:120], some_digits[1][:120]

    def square(**changes):
        return tiny(steps=5, surrogate_epochs=2, **changes).fit(X, y).pattern_

    for changes in ({"target_label": 4}, {"label_map": "all_to_all"}, {"random_state": 1}):
        assert not np.array_equal(square(**changes), square())


def test_same_seed_same_bytes_also_from_a_pickle(fitted, some_digits):
    X = some_digits[0]
    again = tiny().fit(*some_digits)
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(copied.transform(X), fitted.transform(X))
    assert copied.distances_ == again.distances_ == fitted.distances_


def test_refused_before_training(some_digits):
    with pytest.raises(ValueError, match="size=9 is larger than the images"):
        tiny(size=9).fit(*some_digits)
    attack = tiny(target_label=77)
    with pytest.raises(ValueError, match="target_label=77 is no class of y"):
        attack.fit(*some_digits)
    assert not hasattr(attack, "history_")


def test_it_has_a_name():
    assert type(make_attack("lba")) is LatentBackdoor
    assert not LatentBackdoor.clean_label
