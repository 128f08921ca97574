"""ABLClassifier: the quality of the defence on digits, and what its settings do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from antibackdoor import ABLClassifier, UndefendedClassifier, make_poisoned
from antibackdoor.attacks import BadNets
from antibackdoor.backbones import build_network
from antibackdoor.defenses._forgetting import Forgetting
from antibackdoor.defenses.isolation import (
    LOSS_SCORES,
    flag_most_suspect,
    flag_nothing,
    least_suspect_half,
)
from antibackdoor.metrics import (
    attack_success_rate,
    clean_accuracy,
    isolation_precision,
    isolation_recall,
    target_recall,
)
from antibackdoor.training import Samples


@pytest.fixture(scope="module")
def poisoned(split_digits):
    X, _, y, _ = split_digits
    return make_poisoned(X, y, attack="badnets", poison_rate=0.1, random_state=0)


@pytest.fixture(scope="module")
def triggered(split_digits):
    X_train, X_test, _, _ = split_digits
    return BadNets().fit(X_train).transform(X_test)


def test_the_attack_works_on_an_undefended_network(split_digits, poisoned, triggered):
    _, _, _, y_test = split_digits
    X_bad, y_bad, _ = poisoned
    undefended = UndefendedClassifier(epochs=10, random_state=0).fit(X_bad, y_bad)
    assert attack_success_rate(y_test, undefended.predict(triggered), target_label=0) > 0.9


# What the search gives is checked on the quick start's table in test_examples.py.
@pytest.mark.slow
def test_quality_of_a_fixed_ratio_on_poisoned_digits(split_digits, poisoned, triggered):
    _, X_test, _, y_test = split_digits
    X_bad, y_bad, poison_mask = poisoned
    abl = ABLClassifier(isolation_ratio=0.01, finetune_epochs=30, random_state=0)
    abl.fit(X_bad, y_bad)

    assert abl.unlearned_
    assert abl.isolate_classes_.tolist() == [0]
    assert attack_success_rate(y_test, abl.predict(triggered), target_label=0) < 0.1
    assert clean_accuracy(y_test, abl.predict(X_test)) > 0.97
    assert target_recall(y_test, abl.predict(X_test), target_label=0) > 0.9
    assert isolation_precision(poison_mask, abl.isolate_mask_) > 0.9
    assert isolation_recall(poison_mask, abl.isolate_mask_) > 0.9


def test_negative_learning_outvotes_the_poison_that_was_missed(
    split_digits, poisoned, triggered, tmp_path
):
    _, X_test, _, y_test = split_digits
    X_bad, y_bad, poison_mask = poisoned
    cures = {
        cure: ABLClassifier(
            isolation_ratio=0.08,
            isolation_epochs=10,
            finetune_epochs=8,
            unlearning=cure,
            batch_size=32,
            memory=str(tmp_path),
            random_state=0,
        ).fit(X_bad, y_bad)
        for cure in ("retrain", "negative")
    }
    success = {
        cure: attack_success_rate(y_test, clf.predict(triggered), target_label=0)
        for cure, clf in cures.items()
    }
    # The same rows, a third of the poison not among them.
    assert np.array_equal(cures["retrain"].isolate_mask_, cures["negative"].isolate_mask_)
    assert isolation_recall(poison_mask, cures["negative"].isolate_mask_) < 0.8
    assert success["retrain"] > 0.9
    assert success["negative"] < 0.5
    assert clean_accuracy(y_test, cures["negative"].predict(X_test)) > 0.95


# What an automatic ratio does with clean data is in test_isolation.py.
def test_a_fixed_ratio_flags_next_to_nothing_in_clean_digits(digits):
    X, y = digits
    abl = ABLClassifier(
        isolation_ratio=0.01, isolation_epochs=10, finetune_epochs=20, random_state=0
    )
    abl.fit(X[:1000], y[:1000])
    assert len(abl.isolate_) <= 5
    assert abl.score(X[1000:], y[1000:]) > 0.9


def test_unlearning_that_is_taken_back_says_so(poisoned):
    X_bad, y_bad = poisoned[0][:200], poisoned[1][:200]
    # Two epochs of fine-tuning leave a network that unlearning ruins.
    taken_back = quick(finetune_epochs=2).fit(X_bad, y_bad)
    assert not taken_back.unlearned_
    assert len(taken_back.isolate_) == 0
    assert len(taken_back.isolate_classes_) == 0
    assert np.ptp(taken_back.isolate_scores_) > 0  # stage one's ranking is kept
    assert quick().fit(X_bad, y_bad).unlearned_


def quick(**changes):
    settings = {
        "isolation_ratio": 0.01,
        "isolation_epochs": 3,
        "gamma": 2.2,  # a level that these few steps pass
        "finetune_epochs": 8,  # enough for unlearning not to be taken back
        "unlearning_epochs": 2,
        "recovery_epochs": 2,
        "random_state": 0,
    }
    return ABLClassifier(**{**settings, **changes})


def phases(clf):
    names = [row["phase"] for row in clf.history_]
    return list(dict.fromkeys(names))


@pytest.mark.parametrize(
    ("unlearning", "wanted"),
    [
        ("mixed", ["isolate", "finetune", "unlearn", "recover"]),
        ("ascent", ["isolate", "finetune", "unlearn"]),
        ("joint", ["isolate", "finetune"]),
        ("retrain", ["isolate", "finetune"]),
        ("negative", ["isolate", "finetune"]),
        ("auto", ["isolate", "finetune", "unlearn", "recover"]),
    ],
)
def test_phases_of_each_unlearning(poisoned, unlearning, wanted):
    X_bad, y_bad, _ = poisoned
    clf = quick(unlearning=unlearning).fit(X_bad[:300], y_bad[:300])
    assert phases(clf) == wanted
    if unlearning not in ("mixed", "auto"):
        # These flag the isolated rows themselves: one per cent.
        assert len(clf.isolate_) == 3


@pytest.fixture(scope="module")
def unchanged(poisoned):
    """What `quick` answers on two hundred rows."""
    X_bad, y_bad = poisoned[0][:200], poisoned[1][:200]
    return quick().fit(X_bad, y_bad).decision_function(X_bad)


@pytest.mark.parametrize(
    "change",
    [
        {"isolation_epochs": 4},
        {"isolation_objective": "flooding", "reduction": "sample"},
        {"reduction": "sample"},
        {"gamma": 1.0},
        {"isolation_score": "last_epoch"},
        {"isolation_ratio": 0.1},
        {"isolation_ratio": "auto"},
        {"finetune_epochs": 9},
        {"unlearning": "retrain"},
        {"unlearning": "negative"},
        {"unlearning": "joint"},
        {"unlearning": "ascent"},
        {"unlearning_epochs": 1},
        {"unlearning_rate": 0.05},
        {"unlearning_bound": 0.5},
        {"unlearning_bound": None, "isolation_ratio": 0.1},
        {"recovery_epochs": 3},
        {"batch_size": 50},
        {"learning_rate": 0.03},
        {"lr_schedule": "cosine"},
        {"momentum": 0.5},
        {"weight_decay": 0.01},
        {"augment": ("crop",)},
        {"backbone": "mlp"},
    ],
    ids=str,
)
def test_every_setting_has_an_effect(poisoned, unchanged, change):
    X_bad, y_bad = poisoned[0][:200], poisoned[1][:200]
    changed = quick(**change).fit(X_bad, y_bad)
    assert not np.array_equal(unchanged, changed.decision_function(X_bad))


def test_flooding_and_lga_take_the_same_steps(poisoned):
    X_bad, y_bad = poisoned[0][:200], poisoned[1][:200]
    lga, flooded = (
        quick(isolation_objective=kind, gamma=5.0).fit(X_bad, y_bad) for kind in ("lga", "flooding")
    )
    assert np.array_equal(lga.decision_function(X_bad), flooded.decision_function(X_bad))
    assert lga.history_[2]["objective"] != flooded.history_[2]["objective"]


def test_stage_one_holds_the_loss_and_keeps_its_rate(poisoned):
    X_bad, y_bad, _ = poisoned
    clf = quick(isolation_epochs=12, gamma=0.5).fit(X_bad, y_bad)
    isolate = [row for row in clf.history_ if row["phase"] == "isolate"]
    assert all(row["learning_rate"] == 0.1 for row in isolate)
    assert 0.3 < isolate[-1]["loss"] < 0.8


def test_from_paper_sets_what_the_paper_says():
    clf = ABLClassifier.from_paper(isolation_epochs=10)
    assert clf.isolation_epochs == 10
    assert (clf.gamma, clf.isolation_ratio, clf.reduction) == (0.5, 0.01, "sample")
    assert (clf.unlearning, clf.finetune_epochs) == ("joint", 80)
    assert (clf.batch_size, clf.weight_decay) == (64, 1e-4)


def test_from_paper_sets_what_the_released_code_does():
    clf = ABLClassifier.from_paper("released")
    assert (clf.isolation_epochs, clf.finetune_epochs, clf.unlearning_epochs) == (10, 60, 4)
    assert (clf.unlearning, clf.unlearning_rate, clf.reduction) == ("ascent", 5e-4, "batch")


def test_from_paper_knows_two_recipes():
    with pytest.raises(ValueError, match="recipe='rumour'"):
        ABLClassifier.from_paper("rumour")


def test_one_isolated_row_is_enough_for_batch_norm(poisoned):
    def backbone(shape, n_classes):
        return torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(64, 8),
            torch.nn.BatchNorm1d(8),
            torch.nn.Linear(8, n_classes),
        )

    clf = quick(backbone=backbone, unlearning="ascent").fit(poisoned[0][:60], poisoned[1][:60])
    assert len(clf.isolate_) == 1


@pytest.mark.parametrize("recipe", ["paper", "released"])
def test_from_paper_trains(poisoned, recipe):
    X_bad, y_bad = poisoned[0][:300], poisoned[1][:300]
    clf = ABLClassifier.from_paper(
        recipe,
        isolation_epochs=2,
        finetune_epochs=2,
        lr_schedule=(1,),
        augment=None,
        random_state=0,
    )
    assert len(clf.fit(X_bad, y_bad).isolate_) == 3


# ----------------------------------------------------------------------------- isolation


def test_scores_by_hand():
    losses = np.exp(np.array([[0.0, -2.0], [-4.0, -4.0]]))
    np.testing.assert_allclose(LOSS_SCORES["trajectory"](losses), [2.0, 3.0], rtol=1e-5)
    np.testing.assert_allclose(LOSS_SCORES["last_epoch"](losses), [4.0, 4.0], rtol=1e-5)


def test_flag_most_suspect_by_hand():
    isolation = flag_most_suspect(np.array([0.1, 0.9, 0.3, 0.8, 0.2]), 0.4)
    assert isolation.threshold == 0.3
    assert isolation.indices.tolist() == [1, 3]
    assert isolation.mask.tolist() == [False, True, False, True, False]


def test_scores_that_all_tie_flag_nobody():
    assert len(flag_most_suspect(np.ones(10), 0.2).indices) == 0
    assert len(flag_nothing(10).indices) == 0


def test_least_suspect_half_of_every_class():
    scores = np.array([0.9, 0.1, 0.5, 0.7, 0.2])
    labels = np.array([0, 0, 0, 1, 2])
    nobody = np.zeros(5, dtype=bool)
    assert least_suspect_half(scores, labels, nobody).tolist() == [False, True, True, True, True]
    # A flagged row is trusted only where its class has no other.
    flagged = np.array([False, True, False, True, False])
    assert least_suspect_half(scores, labels, flagged).tolist() == [False, False, True, True, True]


# ---------------------------------------------------------------------------- forgetting


@pytest.fixture
def watched():
    """A linear network of two classes and two columns.

    The first column tells the classes apart; the second is set in row 3 alone, the
    isolated one, so that its label can be forgotten by itself.
    """
    X = np.array([[-2.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [2.0, 1.0]])
    network = build_network(
        torch.nn.Linear(2, 2), (2,), 2, mean=torch.zeros(2), scale=torch.ones(2)
    )
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
        network.head.bias.zero_()
    watch = Forgetting(
        network,
        Samples(X, None, torch.device("cpu"), torch.float32),
        torch.tensor([0, 0, 1, 1]),
        isolated=torch.tensor([3]),
        trusted=torch.tensor([0, 1, 2]),
        level=1.0,
        tolerance=0.4,
    )
    return network, watch


def test_unlearning_goes_on_while_nothing_is_forgotten(watched):
    _, watch = watched
    assert not watch.forgotten_or_harmful()


def test_unlearning_ends_when_the_isolated_rows_are_forgotten(watched):
    network, watch = watched
    with torch.no_grad():
        # Row 3: logits -2 + 4 and 2, loss log 2; below the level of 1.
        network.head.weight[0, 1] = 4.0
    assert not watch.forgotten_or_harmful()
    with torch.no_grad():
        network.head.weight[0, 1] = 6.0  # loss log(1 + e^2) = 2.1
    forgotten = network.head.weight.clone()
    assert watch.forgotten_or_harmful()
    assert torch.equal(network.head.weight, forgotten)


def test_harm_is_taken_back(watched):
    network, watch = watched
    good = network.head.bias.clone()
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([9.0, 0.0]))  # class 1 is never answered
    assert watch.forgotten_or_harmful()
    assert torch.equal(network.head.bias, good)
