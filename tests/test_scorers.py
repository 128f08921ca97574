"""Scorers that know the attack, inside scikit-learn's own searches."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from antibackdoor.attacks import ATTACKS, BadNets, Blend, Composite
from antibackdoor.datasets import load_digits_images, make_poisoned
from antibackdoor.metrics import (
    lowest_asr_within,
    make_asr_scorer,
    make_clean_accuracy_scorer,
    make_robust_accuracy_scorer,
)


def flatten(X):
    return X.reshape(len(X), -1) / 255.0


def flat_logistic():
    return make_pipeline(FunctionTransformer(flatten), LogisticRegression(max_iter=500, tol=1e-3))


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits_images()
    return X[:600], y[:600]


@pytest.fixture(scope="module")
def poisoned(digits):
    return make_poisoned(*digits, poison_rate=0.2, random_state=0)


@pytest.fixture(scope="module")
def backdoored(poisoned):
    X, y, _ = poisoned
    return flat_logistic().fit(X, y)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


class CornerReader(ClassifierMixin, BaseEstimator):
    """Says 0 where the bottom-right pixel is 255, and else what the first pixel holds."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.where(X[:, -1, -1] == 255, 0, X[:, 0, 0]).astype(int)


class NeverFooled(CornerReader):
    def predict(self, X):
        return X[:, 0, 0].astype(int)


@pytest.fixture
def by_hand():
    """Eight images that hold their class in the first pixel."""
    y = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    X = np.zeros((8, 6, 6), dtype=np.uint8)
    X[:, 0, 0] = y
    return X, y


def test_values_by_hand(by_hand):
    X, y = by_hand
    fooled, safe = CornerReader().fit(X, y), NeverFooled().fit(X, y)
    asr, robust = make_asr_scorer("badnets"), make_robust_accuracy_scorer("badnets")
    assert (asr(fooled, X, y), robust(fooled, X, y)) == (-1.0, 0.0)
    assert (asr(safe, X, y), robust(safe, X, y)) == (0.0, 1.0)
    assert make_asr_scorer("badnets", greater_is_better=True)(fooled, X, y) == 1.0
    assert make_asr_scorer("badnets", target_label=3)(fooled, X, y) == 0.0
    assert make_clean_accuracy_scorer()(fooled, X, y) == 1.0


def test_all_to_all_by_hand(by_hand):
    X, y = by_hand
    attack = BadNets(label_map="all_to_all")
    fooled = CornerReader().fit(X, y)
    # 0 is wanted for the two rows of class 3 only.
    assert make_asr_scorer(attack)(fooled, X, y) == -2 / 8
    # A fold without class 3 must not send class 2 to 0: the estimator knows the classes.
    assert make_asr_scorer(attack)(fooled, X[:6], y[:6]) == 0.0


def test_fold_without_the_target_class(by_hand):
    X, y = by_hand
    assert make_asr_scorer("badnets")(CornerReader().fit(X, y), X[2:], y[2:]) == -1.0


def test_poison_mask_leaves_rows_out(by_hand):
    X, y = by_hand
    model = NeverFooled().fit(X, y)
    labels = y.copy()
    labels[2] = 0  # a poisoned row: the model is right to contradict it
    mask = np.arange(8) == 2
    clean = make_clean_accuracy_scorer()
    assert clean(model, X, labels) == 7 / 8
    assert clean(model, X, labels, poison_mask=mask) == 1.0


def test_fitted_attack_keeps_its_range(by_hand):
    X, y = by_hand
    X = X.astype(float)
    model = CornerReader().fit(X, y)
    assert make_asr_scorer(BadNets(value_range=(0, 255)))(model, X, y) == -1.0
    # Fitted on the fold, the trigger is no brighter than the brightest pixel there.
    assert make_asr_scorer("badnets")(model, X, y) == 0.0


def test_attack_and_data_are_left_alone(by_hand):
    X, y = by_hand
    before = X.copy()
    attack = BadNets()
    make_asr_scorer(attack)(CornerReader().fit(X, y), X, y)
    np.testing.assert_array_equal(X, before)
    assert not hasattr(attack, "pattern_")


def test_pipeline_gets_stamped_raw_pixels(digits, backdoored):
    X, y = digits
    assert make_asr_scorer("badnets")(backdoored, X, y) < -0.9
    assert make_robust_accuracy_scorer("badnets")(backdoored, X, y) < 0.1
    assert make_clean_accuracy_scorer()(backdoored, X, y) > 0.9
    assert make_asr_scorer("blend")(backdoored, X, y) > -0.7


def test_data_frame_stays_one():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 5)), columns=list("abcde"))
    y = np.where(X["a"] > 0, "yes", "no")
    model = LogisticRegression().fit(X, y)
    assert -1 <= make_asr_scorer("badnets", target_label="no")(model, X, y) <= 0


def test_repr_pickle_and_clone(by_hand):
    X, y = by_hand
    scorer = make_asr_scorer(BadNets(size=2), greater_is_better=True)
    assert repr(scorer) == "make_asr_scorer(BadNets(size=2), greater_is_better=True)"
    assert repr(make_robust_accuracy_scorer(Blend())) == "make_robust_accuracy_scorer(Blend())"
    assert repr(make_clean_accuracy_scorer()) == "make_clean_accuracy_scorer()"
    model = CornerReader().fit(X, y)
    copied = pickle.loads(pickle.dumps(scorer))
    assert copied(model, X, y) == scorer(model, X, y)
    search = clone(GridSearchCV(model, {}, scoring={"asr": scorer}, refit=False))
    assert repr(search.scoring["asr"]) == repr(scorer)
    assert check_scoring(model, scoring=scorer) is scorer


def test_cross_validate_without_routing(digits, forked_jobs):
    X, y = digits
    scoring = {"ca": "accuracy", "neg_asr": make_asr_scorer("badnets", target_label=0)}
    scores = cross_validate(flat_logistic(), X, y, scoring=scoring, cv=2, n_jobs=2)
    assert scores["test_ca"].min() > 0.8
    assert scores["test_neg_asr"].min() > -0.6
    assert cross_validate(flat_logistic(), X, y, scoring=scoring["neg_asr"], cv=2)


class RefusesMask(CornerReader):
    """Fails if anything but X and y reaches fit."""

    def fit(self, X, y, **kwargs):
        assert not kwargs
        return super().fit(X, y)


def test_routing_in_cross_validate(poisoned, routing):
    X, y, mask = poisoned
    scoring = {
        "ca": make_clean_accuracy_scorer(),
        "acc": "accuracy",
        "all": make_clean_accuracy_scorer().set_score_request(poison_mask=False),
    }
    scores = cross_validate(
        flat_logistic(), X, y, scoring=scoring, cv=2, params={"poison_mask": mask}
    )
    np.testing.assert_allclose(scores["test_all"], scores["test_acc"])
    assert (scores["test_ca"] != scores["test_acc"]).all()


def test_routed_value_is_that_of_the_clean_rows(by_hand, routing):
    X, y = by_hand
    labels = y.copy()
    labels[[2, 4]] = 0
    mask = np.isin(np.arange(8), [2, 4])
    folds = [(np.arange(8), np.arange(8))]
    plain, masked = (
        cross_validate(
            RefusesMask(),
            X,
            labels,
            scoring=make_clean_accuracy_scorer().set_score_request(poison_mask=request),
            cv=folds,
            params={"poison_mask": mask} if request else {},
        )["test_score"][0]
        for request in (False, True)
    )
    # Without corner pixels the reader tells the true class: wrong on the two poisoned labels.
    assert (plain, masked) == (6 / 8, 1.0)


def test_routing_in_grid_search_with_two_jobs(poisoned, routing, forked_jobs):
    X, y, mask = poisoned
    search = GridSearchCV(
        flat_logistic(),
        {"logisticregression__C": [0.01, 1.0]},
        scoring={
            "ca": make_clean_accuracy_scorer().set_score_request(poison_mask=True),
            "neg_asr": make_asr_scorer("badnets").set_score_request(poison_mask=True),
            "r_acc": make_robust_accuracy_scorer("badnets").set_score_request(poison_mask=True),
        },
        refit=lowest_asr_within(0.5),
        cv=2,
        n_jobs=2,
    ).fit(X, y, poison_mask=mask)
    neg_asr = search.cv_results_["mean_test_neg_asr"]
    assert neg_asr[search.best_index_] == neg_asr.max()
    assert neg_asr.min() < -0.5
    assert set(search.cv_results_) >= {"mean_test_ca", "mean_test_r_acc"}
    one = search.best_estimator_
    assert make_clean_accuracy_scorer()(one, X, y, poison_mask=mask) > 0.8


def test_request_by_another_name_and_no_request(by_hand, routing):
    X, y = by_hand
    scorer = make_clean_accuracy_scorer().set_score_request(poison_mask="bad_rows")
    folds = [(np.arange(8), np.arange(8))]
    labels = np.where(np.arange(8) == 2, 0, y)
    scores = cross_validate(
        CornerReader(), X, labels, scoring=scorer, cv=folds, params={"bad_rows": labels != y}
    )
    assert scores["test_score"][0] == 1.0
    scorer.set_score_request(poison_mask=None)
    with pytest.raises(UnsetMetadataPassedError, match="poison_mask"):
        cross_validate(
            CornerReader(), X, y, scoring=scorer, cv=folds, params={"poison_mask": labels != y}
        )


def test_sample_weight_in_a_search(by_hand):
    X, y = by_hand
    scoring = {"ca": "accuracy", "neg_asr": make_asr_scorer("badnets")}
    search = GridSearchCV(LogisticRegression(), {}, scoring=scoring, refit="ca", cv=2)
    with pytest.warns(UserWarning, match="does not support sample_weight"):
        search.fit(flatten(X), y, sample_weight=np.ones(8))
    assert np.isfinite(search.cv_results_["mean_test_neg_asr"]).all()


@pytest.mark.parametrize("make", [make_asr_scorer, make_robust_accuracy_scorer])
@pytest.mark.parametrize(
    ("attack", "kwargs", "error", "match"),
    [
        ("nothing", {}, ValueError, "attack='nothing'"),
        (None, {}, TypeError, "attack is None"),
        (BadNets(), {"target_label": 3}, ValueError, "target_label=3 contradicts"),
    ],
)
def test_bad_scorer(make, attack, kwargs, error, match):
    with pytest.raises(error, match=match):
        make(attack, **kwargs)


@pytest.mark.parametrize(
    ("attack", "rows", "mask", "error", "match"),
    [
        ("badnets", slice(0, 2), None, ValueError, "none is left"),
        ("badnets", slice(0, 8), np.ones(8, dtype=bool), ValueError, "no clean row is left"),
        ("badnets", slice(0, 8), np.ones(3, dtype=bool), ValueError, r"shape \(3,\)"),
        ("badnets", slice(0, 8), [0, 1], TypeError, "boolean mask"),
        (BadNets(target_label=9), slice(0, 8), None, ValueError, "target_label=9 is no class"),
        (BadNets(size=7), slice(0, 8), None, ValueError, "size=7 is larger"),
    ],
)
def test_bad_scoring(by_hand, attack, rows, mask, error, match):
    X, y = by_hand
    model = CornerReader().fit(X, y)
    with pytest.raises(error, match=match):
        make_asr_scorer(attack)(model, X[rows], y[rows], poison_mask=mask)


class SaysZero:
    """Obeys any trigger, and knows its classes only where it is given some."""

    def __init__(self, zero, classes=None):
        self.zero = zero
        if classes is not None:
            self.classes_ = classes

    def predict(self, X):
        return np.full(len(X), self.zero)


OBEDIENT = [SaysZero(0, np.arange(4)), SaysZero(0)]
MAKERS = [make_asr_scorer, make_robust_accuracy_scorer]


@pytest.mark.parametrize("model", OBEDIENT, ids=["with classes_", "without"])
@pytest.mark.parametrize(
    ("target", "how"),
    [("0", str), ("0", lambda label: np.str_(label)), ("b", lambda label: "bcde"[label])],
)
@pytest.mark.parametrize("make", MAKERS)
def test_labels_of_another_kind_than_the_models(make, target, how, model, by_hand):
    X, y = by_hand
    for text in (np.array([how(label) for label in y]), pd.Series([how(label) for label in y])):
        with pytest.raises(ValueError, match="never equal"):
            make("badnets", target_label=target)(model, X, text)
        with pytest.raises(ValueError, match="never equal"):
            make_clean_accuracy_scorer()(model, X, text)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("label", ["0", b"0", "Cat", 10, -1, float("nan")])
def test_a_target_that_is_no_class_of_the_model(make, label, by_hand):
    X, y = by_hand
    for model in OBEDIENT:
        with pytest.raises(ValueError, match="target_label|never equal"):
            make("badnets", target_label=label)(model, X, y)
    # It is a class of the attack's data: the model cannot say it all the same.
    attack = BadNets(target_label=9).fit(X, np.r_[y[:-1], 9])
    with pytest.raises(ValueError, match="target_label holds 9 and no other .* estimator can give"):
        make(attack)(OBEDIENT[0], X, y)


@pytest.mark.parametrize("how", [np.float64, object, "Int64"])
def test_labels_of_one_kind_in_other_dtypes(how, by_hand):
    X, y = by_hand
    labels = pd.Series(y).astype(how)
    asr = make_asr_scorer("badnets", greater_is_better=True)
    assert asr(OBEDIENT[0], X, labels) == asr(OBEDIENT[1], X, labels) == 1


@pytest.mark.parametrize("name", [name for name in ATTACKS if ATTACKS[name].trigger_is_learned])
@pytest.mark.parametrize("make", [make_asr_scorer, make_robust_accuracy_scorer])
def test_a_learned_trigger_is_not_learned_again_on_what_is_scored(name, make):
    with pytest.raises(NotFittedError, match="learns its trigger"):
        make(name)


def test_a_fitted_attack_keeps_its_learned_trigger():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (40, 12, 12), dtype=np.uint8), np.arange(40) % 4
    attack = Composite(target_label=1).fit(X[:20], y[:20])

    class SeesTheTrigger:
        """Says "target" to rows that bear the trigger of that attack, and of no other."""

        def predict(self, rows):
            triggered = attack.transform(X[20:])
            known = {row.tobytes() for row in triggered}
            return np.array([1 if row.tobytes() in known else 3 for row in rows])

    scorer = make_asr_scorer(attack, greater_is_better=True)
    assert scorer(SeesTheTrigger(), X[20:], y[20:]) == 1
