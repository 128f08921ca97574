"""Adaptive poison: rows around an exact patch, moved up the loss of the label wanted."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from antibackdoor.attacks import AdaptivePoison, BadNets, OneToOne, make_attack
from antibackdoor.attacks._adaptive_poison import _total_loss, _WithPoison
from antibackdoor.datasets import make_poisoned


def tiny(**changes):
    settings = {"surrogate": "small-cnn", "surrogate_epochs": 3, "steps": 8, "n_surrogates": 2}
    return AdaptivePoison(**{**settings, **changes})


@pytest.fixture(scope="module")
def some_digits(digits):
    X, y = digits
    return X[:250], y[:250]


@pytest.fixture(scope="module")
def fitted(some_digits):
    return tiny().fit(*some_digits)


def losses(attack, rows, label):
    """Loss of rows under a label, averaged over the surrogates and summed over the rows."""
    inputs = attack._to_inputs(rows, torch.device("cpu"))
    wanted = torch.full((len(rows),), label)
    with torch.no_grad():
        return float(_total_loss(attack.surrogates_, inputs, wanted))


def test_total_loss_by_hand():
    sure, unsure = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    networks = nn.ModuleList([_Constant(sure), _Constant(unsure)])
    # Two inputs; -log softmax is log(1 + e^-4) for the first network and log 2 for the second.
    expected = 2 * (np.log1p(np.exp(-4)) + np.log(2)) / 2
    total = _total_loss(networks, torch.zeros(2, 3), torch.tensor([0, 0]))
    assert float(total) == pytest.approx(expected, rel=1e-6)


class _Constant(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, inputs):
        return self.logits.expand(len(inputs), -1)


def test_objective_puts_the_poison_in_its_place():
    seen = []

    def network(inputs):
        seen.append(inputs)
        return inputs.flatten(1)

    poison = torch.full((2, 2, 1, 1), 9.0)
    poison[1] = 8.0
    objective = _WithPoison(torch.tensor([4, 1]), poison, n_samples=5)
    inputs, index = torch.zeros(3, 2, 1, 1), torch.tensor([1, 0, 4])
    value, logits = objective(network, inputs, torch.tensor([0, 0, 0]), index)
    assert seen[0].flatten(1).tolist() == [[8, 8], [0, 0], [9, 9]]
    assert float(value) == pytest.approx(np.log(2), rel=1e-6)
    assert not inputs.any()
    assert logits.shape == (3, 2)


def test_a_surrogate_a_turn(fitted):
    assert len(fitted.surrogates_) == 2
    phases = [row["phase"] for row in fitted.history_]
    assert phases == 3 * ["surrogate 0"] + 3 * ["surrogate 1"]


def test_surrogates_learn_the_patch_as_well(fitted, some_digits):
    X, y = some_digits
    others = X[y != 0]
    assert losses(fitted, fitted.transform(others), 0) < losses(fitted, others, 0)


def test_loss_of_the_wanted_label_rises(fitted, some_digits):
    X, y = some_digits
    others = y != 0
    slow = fitted.transform_training(X[others], y[others])
    plain = fitted.transform(X[others])
    assert losses(fitted, slow, 0) > losses(fitted, plain, 0) + 2


def test_patch_is_exact_and_the_rest_within_eps(fitted, some_digits):
    X, y = some_digits
    rows, stamped = fitted.transform_training(X, y), fitted.transform(X)
    np.testing.assert_array_equal(rows[:, -3:, -3:], stamped[:, -3:, -3:])
    np.testing.assert_array_equal(rows[:, -3:, -3:], BadNets().fit(X).transform(X)[:, -3:, -3:])
    difference = rows.astype(int) - stamped
    assert np.abs(difference).max() == 16
    np.testing.assert_array_equal(stamped, BadNets().fit(X).transform(X))


def test_eps_holds_for_whole_numbers_and_floats(some_digits):
    X, y = some_digits
    for dtype, eps in ((np.int16, 7.9), (np.float64, 7.9)):
        attack = tiny(eps=eps, surrogate_epochs=1, steps=2, value_range=(0, 255))
        attack.fit(X.astype(dtype), y)
        rows = attack.transform_training(X[:9].astype(dtype), y[:9])
        furthest = np.abs(rows.astype(float) - attack.transform(X[:9].astype(dtype))).max()
        assert 7 <= furthest <= 7.9 + 1e-12
        assert rows.dtype == dtype


def test_wanted_label_follows_the_label_map(some_digits):
    X, y = some_digits
    attack = tiny(label_map="all_to_all", surrogate_epochs=1).fit(X, y)
    as_ones, as_twos = (attack.transform_training(X[:5], np.full(5, label)) for label in (1, 2))
    assert not np.array_equal(as_ones, as_twos)


def test_one_row_to_poison_is_enough(some_digits):
    X, y = some_digits
    single = np.where(np.arange(len(y)) == 0, 99, y % 9)
    attack = tiny(label_map=OneToOne(99), surrogate_epochs=1).fit(X, single)
    assert attack.eligible(single).sum() == 1


def test_labels_are_asked_for(fitted, some_digits):
    X, y = some_digits
    with pytest.raises(ValueError, match="y=None; wanted the true label of every row"):
        fitted.transform_training(X)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted.transform_training(X, y[:-1])
    with pytest.raises(NotFittedError):
        tiny().transform_training(X, y)


def test_poisoned_set(fitted, some_digits):
    X, y = some_digits
    X_bad, y_bad, mask = make_poisoned(X, y, attack=fitted, poison_rate=0.1, random_state=0)
    assert (y[mask] != 0).all()
    assert (y_bad[mask] == 0).all()
    np.testing.assert_array_equal(X_bad[mask], fitted.transform_training(X[mask], y[mask]))


def test_same_seed_same_bytes_also_from_a_pickle(fitted, some_digits):
    X, y = some_digits
    again = tiny().fit(X, y)
    copied = pickle.loads(pickle.dumps(fitted))
    expected = fitted.transform_training(X[:9], y[:9])
    np.testing.assert_array_equal(again.transform_training(X[:9], y[:9]), expected)
    np.testing.assert_array_equal(copied.transform_training(X[:9], y[:9]), expected)
    other = tiny(random_state=1).fit(X, y)
    assert not np.array_equal(other.transform_training(X[:9], y[:9]), expected)


@pytest.mark.parametrize(
    "changes", [{"eps": 4}, {"steps": 4}, {"size": 2}, {"n_surrogates": 1}, {"surrogate_epochs": 2}]
)
def test_every_parameter_has_an_effect(fitted, some_digits, changes):
    X, y = some_digits
    other = tiny(**changes).fit(X, y)
    rows = other.transform_training(X[:9], y[:9])
    assert not np.array_equal(rows, fitted.transform_training(X[:9], y[:9]))


def test_refused_before_training(some_digits):
    with pytest.raises(ValueError, match="size=9 is larger than the images"):
        tiny(size=9).fit(*some_digits)
    attack = tiny(target_label=77)
    with pytest.raises(ValueError, match="target_label=77 is no class of y"):
        attack.fit(*some_digits)
    assert not hasattr(attack, "history_")


def test_it_has_a_name():
    assert type(make_attack("adaptive-cbd")) is AdaptivePoison
    assert not AdaptivePoison.clean_label
