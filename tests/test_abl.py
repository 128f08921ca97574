"""ABLClassifier: the quality of the defence on digits, and what its settings do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from antibackdoor import (
    ABLClassifier,
    Ascent,
    Joint,
    LossRank,
    Mixed,
    NegativeLearning,
    PoisonSearch,
    Retrain,
    make_poisoned,
)
from antibackdoor.attacks import BadNets
from antibackdoor.metrics import (
    attack_success_rate,
    clean_accuracy,
    isolation_precision,
    isolation_recall,
    target_recall,
)


@pytest.fixture(scope="module")
def poisoned(split_digits):
    X, _, y, _ = split_digits
    return make_poisoned(X, y, attack="badnets", poison_rate=0.1, random_state=0)


@pytest.fixture(scope="module")
def triggered(split_digits):
    X_train, X_test, _, _ = split_digits
    return BadNets().fit(X_train).transform(X_test)


# What the search gives is checked on the quick start's table in test_examples.py.
@pytest.mark.slow
def test_quality_of_a_fixed_ratio_on_poisoned_digits(split_digits, poisoned, triggered):
    _, X_test, _, y_test = split_digits
    X_bad, y_bad, poison_mask = poisoned
    # A fixed share hangs on the seed: with 0, on some processors, half of the attack gets through.
    abl = ABLClassifier(detector=LossRank(ratio=0.01), epochs=5, random_state=1)
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
        type(cure): ABLClassifier(
            detector=LossRank(ratio=0.08, epochs=7, batch_size=32),
            cure=cure,
            epochs=5,
            batch_size=32,
            cache_dir=tmp_path,
            random_state=0,
        ).fit(X_bad, y_bad)
        for cure in (Retrain(), NegativeLearning())
    }
    success = {
        cure: attack_success_rate(y_test, clf.predict(triggered), target_label=0)
        for cure, clf in cures.items()
    }
    # The same rows, a third of the poison not among them.
    assert np.array_equal(cures[Retrain].isolate_mask_, cures[NegativeLearning].isolate_mask_)
    assert isolation_recall(poison_mask, cures[NegativeLearning].isolate_mask_) < 0.8
    assert success[Retrain] > 0.9
    assert success[NegativeLearning] < 0.5
    assert clean_accuracy(y_test, cures[NegativeLearning].predict(X_test)) > 0.95


# What the search does with clean data is in test_poison_search.py. A fixed share promises nothing
# of it: with another seed, 40 of these rows are flagged.
def test_a_fixed_ratio_flags_next_to_nothing_in_clean_digits(digits):
    X, y = digits
    abl = ABLClassifier(detector=LossRank(ratio=0.01, epochs=10), epochs=20, random_state=1)
    abl.fit(X[:1000], y[:1000])
    assert len(abl.isolate_) <= 5
    assert abl.score(X[1000:], y[1000:]) > 0.9


def test_unlearning_that_is_taken_back_says_so(poisoned):
    X_bad, y_bad = poisoned[0][:200], poisoned[1][:200]
    # Two epochs of fine-tuning leave a network that unlearning ruins.
    taken_back = quick(epochs=2, backbone="auto").fit(X_bad, y_bad)
    assert not taken_back.unlearned_
    assert len(taken_back.isolate_) == 0
    assert len(taken_back.isolate_classes_) == 0
    assert np.ptp(taken_back.isolate_scores_) > 0  # stage one's ranking is kept
    assert quick(backbone="auto").fit(X_bad, y_bad).unlearned_


def quick(**changes):
    settings = {
        # A level that these few steps pass.
        "detector": LossRank(ratio=0.01, epochs=3, gamma=2.2),
        "cure": Mixed(epochs=2, recovery_epochs=2),
        "epochs": 8,  # enough for unlearning not to be taken back
        # Of smaller ones isolated rows are learned so well that ascent does not move them.
        "batch_size": 128,
        "backbone": "mlp",
        "random_state": 0,
    }
    clf = ABLClassifier(**settings)
    # In this order: the parameters of a new detector or cure come after it.
    return clf.set_params(**{key: changes[key] for key in sorted(changes, key=len)})


def phases(clf):
    names = [row["phase"] for row in clf.history_]
    return list(dict.fromkeys(names))


@pytest.mark.parametrize(
    ("cure", "wanted"),
    [
        (Mixed(epochs=2, recovery_epochs=2), ["isolate", "finetune", "unlearn", "recover"]),
        (Ascent(epochs=2), ["isolate", "finetune", "unlearn"]),
        (Joint(), ["isolate", "finetune"]),
        (Retrain(), ["isolate", "finetune"]),
        (NegativeLearning(), ["isolate", "finetune"]),
        (None, ["isolate", "finetune", "unlearn", "recover"]),
    ],
    ids=lambda cure: type(cure).__name__,
)
def test_phases_of_each_cure(poisoned, cure, wanted):
    X_bad, y_bad, _ = poisoned
    clf = quick(cure=cure).fit(X_bad[:300], y_bad[:300])
    assert phases(clf) == wanted
    if not (cure is None or isinstance(cure, Mixed)):
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
        {"detector__epochs": 4},
        {"detector__reduction": "sample"},
        {"detector__gamma": 1.0},
        {"detector__gamma": None},
        {"detector__rank_by": "last_epoch"},
        {"detector__ratio": 0.1},
        {"detector__batch_size": 50},
        {"detector__learning_rate": 0.03},
        {"detector__lr_schedule": "cosine"},
        {"detector__momentum": 0.5},
        {"detector__weight_decay": 0.01},
        {"detector__augment": ("crop",)},
        {"detector__random_state": 1},
        {"detector": PoisonSearch(epochs=2)},
        {"epochs": 9},
        {"cure": Retrain()},
        {"cure": NegativeLearning()},
        {"cure": Joint()},
        {"cure": Ascent()},
        {"cure__epochs": 1},
        {"cure__learning_rate": 0.05},
        {"cure__bound": 0.5},
        {"cure__bound": None, "detector__ratio": 0.1},
        {"cure__recovery_epochs": 3},
        {"batch_size": 50},
        {"learning_rate": 0.03},
        {"lr_schedule": "cosine"},
        {"momentum": 0.5},
        {"weight_decay": 0.01},
        {"augment": ("crop",)},
        {"backbone": "small-cnn"},
    ],
    ids=str,
)
def test_every_setting_has_an_effect(poisoned, unchanged, change):
    X_bad, y_bad = poisoned[0][:200], poisoned[1][:200]
    changed = quick(**change).fit(X_bad, y_bad)
    assert not np.array_equal(unchanged, changed.decision_function(X_bad))


def test_stage_one_holds_the_loss_and_keeps_its_rate(poisoned):
    X_bad, y_bad, _ = poisoned
    isolate = LossRank(epochs=12, backbone="mlp", random_state=0).fit(X_bad, y_bad).history_
    assert all(row["learning_rate"] == 0.1 for row in isolate)
    assert 0.3 < isolate[-1]["loss"] < 0.8


def test_from_paper_sets_what_the_paper_says():
    clf = ABLClassifier.from_paper(detector__epochs=10)
    first = clf.detector
    assert (first.epochs, first.gamma, first.ratio, first.reduction) == (10, 0.5, 0.01, "sample")
    assert (first.rank_by, first.batch_size, first.weight_decay) == ("last_epoch", 64, 1e-4)
    assert isinstance(clf.cure, Joint)
    assert (clf.epochs, clf.batch_size, clf.weight_decay) == (80, 64, 1e-4)


def test_from_paper_sets_what_the_released_code_does():
    clf = ABLClassifier.from_paper("released")
    assert (clf.detector.epochs, clf.epochs, clf.detector.reduction) == (10, 60, "batch")
    assert isinstance(clf.cure, Ascent)
    assert (clf.cure.epochs, clf.cure.learning_rate, clf.cure.bound) == (4, 5e-4, None)


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

    clf = quick(backbone=backbone, cure=Ascent()).fit(poisoned[0][:60], poisoned[1][:60])
    assert len(clf.isolate_) == 1


@pytest.mark.parametrize("recipe", ["paper", "released"])
def test_from_paper_trains(poisoned, recipe):
    X_bad, y_bad = poisoned[0][:300], poisoned[1][:300]
    clf = ABLClassifier.from_paper(
        recipe,
        detector__epochs=2,
        epochs=2,
        lr_schedule=(1,),
        augment=None,
        random_state=0,
    )
    assert len(clf.fit(X_bad, y_bad).isolate_) == 3
