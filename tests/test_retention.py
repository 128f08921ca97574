"""The score that needs no trigger: by hand, in scikit-learn's searches, and on a backdoor."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from antibackdoor.datasets import make_poisoned
from antibackdoor.metrics import (
    lowest_asr_within,
    make_asr_scorer,
    make_retention_scorer,
    suspect_retention,
)


class Reader(ClassifierMixin, BaseEstimator):
    """Says the first feature, but 0 where the second, the trigger, is at least `fooled_by`."""

    def __init__(self, fooled_by=2):
        self.fooled_by = fooled_by

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        X = np.asarray(X)
        return np.where(X[:, 1] >= self.fooled_by, 0, X[:, 0])


#: Eight rows to be scored, classes 0 to 3; the last two are poison, with the attacker's 0.
X = np.array([[0, 0], [1, 0], [2, 0], [3, 0], [1, 0], [2, 0], [3, 1], [3, 1]])
Y = np.array([0, 1, 2, 3, 1, 2, 0, 0])
POISON = np.array([False] * 6 + [True] * 2)
#: Three poisoned rows, and one that is suspected in error.
X_SUSPECTS = np.array([[1, 1], [2, 1], [3, 1], [0, 0]])
Y_SUSPECTS = np.array([0, 0, 0, 0])

FOOLED, SAFE = Reader(fooled_by=1), Reader()


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_retention_by_hand():
    assert suspect_retention([0, 0, 0, 0], [0, 3, 7, 0]) == 1 / 2
    # A label for each suspect, as an all-to-all attack gives.
    assert suspect_retention([1, 2, 0], [1, 2, 2]) == 2 / 3
    assert suspect_retention(["cat", "cat"], ["dog", "owl"]) == 0
    assert type(suspect_retention([0], [0])) is float


def test_score_by_hand():
    score = make_retention_scorer(X_SUSPECTS, Y_SUSPECTS)
    # Fooled: right about all eight rows, poison included, and all four suspects kept.
    assert score(FOOLED, X, Y) == 1 - 1
    # Safe: it contradicts both poisoned rows, and keeps the suspect that is none.
    assert score(SAFE, X, Y) == 6 / 8 - 1 / 4


def test_poison_mask_leaves_rows_out_of_the_accuracy_alone():
    score = make_retention_scorer(X_SUSPECTS, Y_SUSPECTS)
    assert score(FOOLED, X, Y, poison_mask=POISON) == 1 - 1
    assert score(SAFE, X, Y, poison_mask=POISON) == 1 - 1 / 4


@pytest.mark.parametrize(("weight", "expected"), [(0, -1 / 4), (0.5, 1 / 8), (2, 5 / 4)])
def test_accuracy_weight(weight, expected):
    score = make_retention_scorer(X_SUSPECTS, Y_SUSPECTS, accuracy_weight=weight)
    assert score(SAFE, X, Y) == expected


def test_weight_zero_is_plus_zero_at_best():
    score = make_retention_scorer(X_SUSPECTS[:3], Y_SUSPECTS[:3], accuracy_weight=0)
    assert str(score(SAFE, X, Y)) == "0.0"


def test_lists_will_do():
    score = make_retention_scorer(X_SUSPECTS.tolist(), Y_SUSPECTS.tolist())
    assert score(SAFE, X, Y) == 6 / 8 - 1 / 4


def test_data_frame_stays_one():
    columns = ["pixel", "corner"]
    frame = pd.DataFrame(X, columns=columns)
    model = LogisticRegression().fit(frame, Y)
    score = make_retention_scorer(pd.DataFrame(X_SUSPECTS, columns=columns), pd.Series(Y_SUSPECTS))
    assert -1 <= score(model, frame, Y) <= 1  # without the names scikit-learn would warn


def test_repr_pickle_and_clone():
    score = make_retention_scorer(X_SUSPECTS, Y_SUSPECTS)
    alone = make_retention_scorer(X_SUSPECTS, Y_SUSPECTS, accuracy_weight=0)
    assert repr(score) == "make_retention_scorer(<4 suspects>)"
    assert repr(alone) == "make_retention_scorer(<4 suspects>, accuracy_weight=0)"
    assert pickle.loads(pickle.dumps(alone))(SAFE, X, Y) == alone(SAFE, X, Y)
    search = clone(GridSearchCV(SAFE, {}, scoring=score))
    assert search.scoring(SAFE, X, Y) == score(SAFE, X, Y)
    assert check_scoring(SAFE, scoring=score) is score


def test_grid_search_with_one_score():
    search = GridSearchCV(
        Reader(),
        {"fooled_by": [1, 2]},
        scoring=make_retention_scorer(X_SUSPECTS, Y_SUSPECTS),
        cv=KFold(2),
        error_score="raise",
    ).fit(X, Y)
    # Accuracy of the folds: 1 and 1 where fooled, 1 and 2/4 where safe.
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], [1 - 1, 3 / 4 - 1 / 4])
    assert search.best_params_ == {"fooled_by": 2}
    # Accuracy alone takes the backdoored one.
    assert GridSearchCV(Reader(), search.param_grid, cv=KFold(2)).fit(X, Y).best_params_ == {
        "fooled_by": 1
    }


def test_grid_search_with_two_scores():
    alone = make_retention_scorer(X_SUSPECTS, Y_SUSPECTS, accuracy_weight=0)
    search = GridSearchCV(
        Reader(),
        {"fooled_by": [1, 2]},
        scoring={"ca": "accuracy", "neg_retention": alone},
        refit=lowest_asr_within(0.3, asr="neg_retention"),
        cv=KFold(2),
        error_score="raise",
    ).fit(X, Y)
    np.testing.assert_allclose(search.cv_results_["mean_test_neg_retention"], [-1, -1 / 4])
    assert search.best_params_ == {"fooled_by": 2}


def test_mask_is_routed(routing):
    scores = cross_validate(
        SAFE,
        X,
        Y,
        scoring=make_retention_scorer(X_SUSPECTS, Y_SUSPECTS),
        cv=KFold(2),
        params={"poison_mask": POISON},
        error_score="raise",
    )
    np.testing.assert_allclose(scores["test_score"], [1 - 1 / 4, 1 - 1 / 4])


def flatten(images):
    return images.reshape(len(images), -1) / 255.0


def test_it_orders_a_backdoored_and_a_clean_model_as_the_asr_does(digits):
    X, y = digits[0][:600], digits[1][:600]
    X_bad, y_bad, mask = make_poisoned(X, y, poison_rate=0.1, random_state=0)
    model = make_pipeline(FunctionTransformer(flatten), LogisticRegression(max_iter=300, tol=1e-2))
    backdoored, clean = clone(model).fit(X_bad, y_bad), clone(model).fit(X, y)
    score, neg_asr = make_retention_scorer(X_bad[mask], y_bad[mask]), make_asr_scorer("badnets")
    assert score(backdoored, X_bad, y_bad) < 0.2 < 0.5 < score(clean, X_bad, y_bad)
    assert neg_asr(backdoored, X, y) < neg_asr(clean, X, y)


@pytest.mark.parametrize(
    ("X_suspects", "y_suspects", "weight", "error", "match"),
    [
        (np.empty((0, 2)), [], 1, ValueError, "X_suspects and y_suspects are empty"),
        ([], [], 1, ValueError, "one suspect row or more"),
        (X_SUSPECTS, [0, 0], 1, ValueError, "X_suspects has 4 rows, but y_suspects 2 labels"),
        (None, [0], 1, TypeError, "X_suspects: "),
        (X_SUSPECTS, [[0, 0], [0, 0]], 1, ValueError, "y_suspects: .*1d array"),
        (X_SUSPECTS, 0, 1, ValueError, "y_suspects: "),
        (X_SUSPECTS, Y_SUSPECTS, -1, ValueError, "accuracy_weight=-1; wanted"),
        (X_SUSPECTS, Y_SUSPECTS, np.nan, ValueError, "accuracy_weight=nan"),
        (X_SUSPECTS, Y_SUSPECTS, np.inf, ValueError, "accuracy_weight=inf"),
        (X_SUSPECTS, Y_SUSPECTS, True, ValueError, "accuracy_weight=True"),
        (X_SUSPECTS, Y_SUSPECTS, "1", ValueError, "accuracy_weight='1'"),
    ],
)
def test_bad_scorer(X_suspects, y_suspects, weight, error, match):
    with pytest.raises(error, match=match):
        make_retention_scorer(X_suspects, y_suspects, accuracy_weight=weight)


@pytest.mark.parametrize(
    ("y_suspects", "y_pred", "match"),
    [
        ([], [], "y_suspects and y_pred are empty"),
        ([0, 0], [0], "y_suspects has 2 labels, but y_pred has 1"),
        ([0, 0], ["a", "b"], "y_pred holds text .* and y_suspects holds numbers"),
    ],
)
def test_bad_labels(y_suspects, y_pred, match):
    with pytest.raises(ValueError, match=match):
        suspect_retention(y_suspects, y_pred)


def test_text_suspects_of_a_model_of_numbers():
    score = make_retention_scorer([[1], [2]], ["cat", "cat"])
    with pytest.raises(ValueError, match="y_suspects holds text .* estimator.classes_ holds numb"):
        score(DummyClassifier().fit([[1], [2]], [0, 1]), [[1]], [0])


def test_suspects_whose_label_the_model_does_not_know():
    """It gives it to none of them: as good as a model can seem, and no merit."""
    model = DummyClassifier().fit([[1], [2]], ["cat", "dog"])
    with pytest.raises(ValueError, match=r"y_suspects holds 'Cat' .* classes_ are \['cat', 'dog'"):
        make_retention_scorer([[1], [2]], ["Cat", "Cat"])(model, [[1]], ["cat"])
