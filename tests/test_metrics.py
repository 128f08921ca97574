"""Metrics on labels, against values worked out by hand."""

import pickle
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV

from antibackdoor.metrics import (
    attack_success_rate,
    clean_accuracy,
    isolation_f1,
    isolation_precision,
    isolation_recall,
    lowest_asr_within,
    robust_accuracy,
    suspect_retention,
    target_recall,
)

Y_TRUE = [0, 0, 1, 1, 2, 2]
Y_PRED = [0, 1, 0, 1, 0, 0]


def test_clean_accuracy():
    assert clean_accuracy(Y_TRUE, Y_PRED) == 2 / 6
    mask = np.array([False, True, True, False, True, False])
    assert clean_accuracy(Y_TRUE, Y_PRED, poison_mask=mask) == 2 / 3  # rows 0, 3 of 0, 3, 5


def test_attack_success_rate_leaves_the_target_class_out():
    assert attack_success_rate(Y_TRUE, Y_PRED, target_label=0) == 3 / 4  # rows 2 to 5
    assert attack_success_rate(Y_TRUE, Y_PRED, target_label=1) == 1 / 4  # rows 0, 1, 4, 5


def test_a_class_without_a_row_is_named():
    """A model that never says 9 may be a good one, or 9 a slip: only the caller can tell."""
    for metric in (attack_success_rate, robust_accuracy):
        with pytest.raises(ValueError, match="target_label=9 is no class"):
            metric(Y_TRUE, Y_PRED, target_label=9)
    assert attack_success_rate(Y_TRUE, Y_PRED, target_label=9, classes=range(10)) == 0
    assert robust_accuracy(Y_TRUE, Y_PRED, target_label=9, classes=range(10)) == 2 / 6
    assert attack_success_rate([1, 2], [1, 9], target_label=9) == 1 / 2
    with pytest.raises(ValueError, match="target_label holds 7, which is no class"):
        attack_success_rate(Y_TRUE, Y_PRED, target_label=[1, 1, 2, 2, 7, 2])


def test_attack_success_rate_with_a_label_for_each_row():
    # The last row's attacker label is its true class, so five count; rows 1 and 4 get theirs.
    assert attack_success_rate(Y_TRUE, Y_PRED, target_label=[1, 1, 2, 2, 0, 2]) == 2 / 5


def test_robust_accuracy():
    assert robust_accuracy(Y_TRUE, Y_PRED) == 2 / 6
    assert robust_accuracy(Y_TRUE, Y_PRED, target_label=0) == 1 / 4
    assert robust_accuracy(Y_TRUE, Y_PRED, target_label=[1, 1, 2, 2, 0, 2]) == 2 / 5


def test_target_recall():
    assert target_recall(Y_TRUE, Y_PRED, target_label=0) == 1 / 2
    assert target_recall(Y_TRUE, Y_PRED, target_label=2) == 0


@pytest.mark.parametrize("dtype", [object, "U3"])
def test_text_labels(dtype):
    y_true = np.array(["cat", "dog", "owl"], dtype=dtype)
    y_pred = np.array(["cat", "cat", "owl"])
    assert clean_accuracy(y_true, y_pred) == 2 / 3
    assert attack_success_rate(y_true, y_pred, target_label="cat") == 1 / 2
    assert robust_accuracy(y_true, y_pred, target_label="cat") == 1 / 2
    assert target_recall(y_true, y_pred, target_label="cat") == 1


# The classes 0, 1, 2 as text and as numbers, in all that labels come in.
CODES = np.array([0, 1, 2, 0, 1, 2])
TEXTS = np.array(["0", "1", "2"])[CODES]
KINDS = {
    "text": {
        "U": TEXTS,
        "object": TEXTS.astype(object),
        "list": TEXTS.tolist(),
        "StringDType": TEXTS.astype(np.dtypes.StringDType()),
        "Series": pd.Series(TEXTS),
        "object Series": pd.Series(TEXTS, dtype=object),
        "string": pd.Series(TEXTS, dtype="string"),
        "category": pd.Series(TEXTS, dtype="category"),
        "Categorical": pd.Categorical(TEXTS),
    },
    "bytes": {
        "S": TEXTS.astype("S"),
        "object": TEXTS.astype("S").astype(object),
        "list": TEXTS.astype("S").tolist(),
    },
    "numbers": {
        **{name: CODES.astype(name) for name in ("int8", "uint64", "int64", "float32", "object")},
        "list": CODES.tolist(),
        "list of scalars": list(CODES),
        "Series": pd.Series(CODES),
        "Int64": pd.Series(CODES, dtype="Int64"),
        "Float64": pd.Series(CODES, dtype="Float64"),
        "category": pd.Series(CODES, dtype="category"),
        "tensor": torch.as_tensor(CODES),
        "Fraction": np.array([Fraction(int(code)) for code in CODES]),
    },
}
ALL_KINDS = [(kind, name) for kind, forms in KINDS.items() for name in forms]
METRICS = {
    "clean_accuracy": clean_accuracy,
    "suspect_retention": suspect_retention,
    "robust_accuracy": robust_accuracy,
    "asr": lambda y, y_pred: attack_success_rate(y, y_pred, target_label=np.asarray(y_pred)[1]),
    "target_recall": lambda y, y_pred: target_recall(y, y_pred, target_label=np.asarray(y)[0]),
}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize(("kind", "form"), ALL_KINDS)
def test_labels_of_one_kind_compare_and_of_others_are_refused(metric, kind, form):
    """No pair of forms gives a 0 where the labels are the same: the value, or an error."""
    labels = KINDS[kind][form]
    for other_kind, other_form in ALL_KINDS:
        other = KINDS[other_kind][other_form]
        if kind != other_kind:
            with pytest.raises(ValueError, match="never equal"):
                metric(labels, other)
        elif metric is METRICS["asr"]:
            assert metric(labels, other) == 0  # all are right
            says_one = other[1:2] if isinstance(other, list) else list(np.asarray(other)[1:2])
            assert metric(labels, says_one * 6) == 1
        else:
            assert metric(labels, other) == 1


def test_booleans_are_numbers():
    """As for scikit-learn's accuracy: True is 1."""
    yes = np.array([True, False, True])
    for other in ([1, 0, 1], [1.0, 0.0, 1.0], np.array([True, False, True], dtype=object)):
        assert clean_accuracy(yes, other) == accuracy_score(yes, [1, 0, 1]) == 1
    assert attack_success_rate(yes, [1, 1, 1], target_label=True) == 1
    assert attack_success_rate([1, 0, 1], yes, target_label=False) == 0


@pytest.mark.parametrize(
    "target",
    [
        *("Cat", "cat ", "", 0, 0.0, True, b"cat", None, np.nan, float("nan"), pd.NA, pd.NaT),
        *(np.str_("Cat"), np.array("Cat"), np.int64(0), np.datetime64("2020-01-01"), object()),
        *(["Cat"] * 3, [None] * 3, ["cat", "cat", np.nan], np.array([0, 0, 0])),
    ],
    ids=lambda target: type(target).__name__,
)
def test_a_target_that_is_no_class_is_refused(target):
    y_true, y_pred = np.array(["cat", "dog", "owl"]), np.full(3, "cat")
    for y in (y_true, y_true.astype(object), pd.Series(y_true, dtype="category")):
        with pytest.raises((ValueError, TypeError), match="target_label"):
            attack_success_rate(y, y_pred, target_label=target)
        if target is not None:
            with pytest.raises((ValueError, TypeError), match="target_label"):
                robust_accuracy(y, y_pred, target_label=target)


@pytest.mark.parametrize(
    ("labels", "error", "match"),
    [
        ([0, 1, np.nan], ValueError, "NaN, which is no label"),
        ([0, 1, None], ValueError, "None, which is no label"),
        (pd.Series([0, 1, None], dtype="Int64"), ValueError, "N(aN|A>), which is no label"),
        (pd.Series(["a", "b", None], dtype="category"), ValueError, "NaN, which is no label"),
        (["a", "b", np.nan], ValueError, "NaN, which is no label"),  # an array says 'nan'
        ([0, 1, "2"], ValueError, "mixes numbers and text"),
        ([b"a", "a", "b"], ValueError, "mixes bytes and text"),
        (np.array([0, 1, "2"], dtype=object), ValueError, "mixes numbers and text"),
        (np.array(["2020", "2021", "2022"], dtype="datetime64[Y]"), TypeError, "datetime64"),
        (np.array([(0,), (1,), (2,)], dtype=[("a", int)]), TypeError, "holds"),
    ],
)
def test_what_is_no_label(labels, error, match):
    for metric in (clean_accuracy, robust_accuracy, suspect_retention):
        for args in ((labels, labels), ([0, 1, 2], labels)):
            with pytest.raises(error, match=match):
                metric(*args)


def test_isolation_masks_of_pandas():
    poison = pd.Series([True, True, False], dtype="boolean")
    assert isolation_recall(poison, [True, False, False]) == 1 / 2
    with pytest.raises(TypeError, match="poison_mask"):
        isolation_recall(pd.Series([True, None, False], dtype="boolean"), [True, False, False])


def test_isolation():
    poison = [True, True, True, False, False]
    isolated = [True, False, False, True, False]
    assert isolation_precision(poison, isolated) == 1 / 2
    assert isolation_recall(poison, isolated) == 1 / 3
    assert isolation_f1(poison, isolated) == pytest.approx(2 / 5)  # 2 * 1 / (2 * 1 + 1 + 2)


def test_isolation_of_nothing_is_zero():
    some, none = [True, False], [False, False]
    for metric in (isolation_precision, isolation_recall, isolation_f1):
        assert metric(some, none) == 0
        assert metric(none, some) == 0
        assert metric(none, none) == 0


def test_values_are_plain_floats():
    assert type(attack_success_rate(Y_TRUE, Y_PRED, target_label=0)) is float
    assert type(clean_accuracy(Y_TRUE, Y_PRED)) is float
    assert type(isolation_f1([True], [True])) is float


MASK = np.zeros(6, dtype=bool)


@pytest.mark.parametrize(
    ("metric", "args", "kwargs", "error", "match"),
    [
        (clean_accuracy, (Y_TRUE, [0]), {}, ValueError, "y_true has 6 labels, but y_pred has 1"),
        (clean_accuracy, ([], []), {}, ValueError, "empty"),
        (clean_accuracy, (Y_TRUE, ["0"] * 6), {}, ValueError, "y_pred holds"),
        (clean_accuracy, ([Y_TRUE] * 2, Y_PRED), {}, ValueError, "1d array"),
        (clean_accuracy, (Y_TRUE, Y_PRED), {"poison_mask": ~MASK}, ValueError, "no clean row"),
        (clean_accuracy, (Y_TRUE, Y_PRED), {"poison_mask": MASK[:2]}, ValueError, r"shape \(2,\)"),
        (clean_accuracy, (Y_TRUE, Y_PRED), {"poison_mask": [0, 1]}, TypeError, "poison_mask has"),
        (attack_success_rate, (Y_TRUE, Y_PRED), {"target_label": "0"}, ValueError, "target_label"),
        (attack_success_rate, (Y_TRUE, Y_PRED), {"target_label": [0, 1]}, ValueError, r"\(2,\)"),
        (attack_success_rate, (Y_TRUE, Y_PRED), {"target_label": Y_TRUE}, ValueError, "none is"),
        (attack_success_rate, ([0], [0]), {"target_label": 0}, ValueError, "none is left"),
        (robust_accuracy, ([0], [0]), {"target_label": 0}, ValueError, "none is left"),
        (robust_accuracy, (Y_TRUE, Y_PRED[:2]), {}, ValueError, "y_pred has 2"),
        (target_recall, (Y_TRUE, Y_PRED), {"target_label": 5}, ValueError, "target_label=5"),
        (target_recall, (Y_TRUE, Y_PRED), {"target_label": Y_TRUE}, ValueError, "one label"),
        (isolation_recall, (MASK, [1, 2]), {}, TypeError, "isolate_mask has.*not indices"),
        (isolation_precision, (MASK, MASK[:3]), {}, ValueError, "isolate_mask has shape"),
        (isolation_f1, ([0, 1], [True, False]), {}, TypeError, "poison_mask has"),
        (isolation_f1, ([], []), {}, ValueError, "poison_mask is empty"),
        (lowest_asr_within, (-0.1,), {}, ValueError, "tolerance=-0.1"),
        (lowest_asr_within, ("a",), {}, ValueError, "tolerance='a'"),
        (lowest_asr_within, (float("nan"),), {}, ValueError, "tolerance=nan"),
    ],
)
def test_bad_input(metric, args, kwargs, error, match):
    with pytest.raises(error, match=match):
        metric(*args, **kwargs)


def results(ca, neg_asr):
    return {"mean_test_ca": np.array(ca), "mean_test_neg_asr": np.array(neg_asr)}


@pytest.mark.parametrize(
    ("ca", "neg_asr", "chosen"),
    [
        ([0.95, 0.93, 0.60], [-0.9, -0.1, 0.0], 1),  # 0.93 is just within two points
        ([0.95, 0.92, 0.60], [-0.9, -0.1, 0.0], 0),
        ([0.94, 0.95, 0.95], [-0.1, -0.1, -0.2], 1),  # same ASR: the more accurate
        ([np.nan, 0.90, 0.91], [0.0, -0.5, -0.4], 2),  # a failed candidate is none
        ([0.99, 0.90, 0.91], [np.nan, -0.4, -0.5], 1),
    ],
)
def test_lowest_asr_within(ca, neg_asr, chosen):
    choose = pickle.loads(pickle.dumps(lowest_asr_within(0.02)))
    assert choose(results(ca, neg_asr)) == chosen


def test_lowest_asr_within_tolerance_and_names():
    scores = results([0.95, 0.80], [-0.9, -0.1])
    assert lowest_asr_within(0)(scores) == 0
    assert lowest_asr_within(0.2)(scores) == 1
    assert lowest_asr_within(0.2, ca="neg_asr", asr="ca")(scores) == 1
    with pytest.raises(ValueError, match=r"no 'acc'; it has \['ca', 'neg_asr'\]"):
        lowest_asr_within(ca="acc")(scores)
    with pytest.raises(ValueError, match="no candidate has both"):
        lowest_asr_within()(results([np.nan], [0.0]))


def test_lowest_asr_within_as_refit():
    X = np.random.default_rng(0).normal(size=(40, 2))
    y = (X[:, 0] > 0).astype(int)
    search = GridSearchCV(
        LogisticRegression(),
        {"C": [0.1, 1.0]},
        scoring={"ca": "accuracy", "neg_asr": "neg_log_loss"},
        refit=lowest_asr_within(1.0),
        cv=2,
    ).fit(X, y)
    assert search.best_index_ == np.argmax(search.cv_results_["mean_test_neg_asr"])
