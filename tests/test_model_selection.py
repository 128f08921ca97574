"""The classifiers inside scikit-learn's pipelines, searches and cross-validation."""

import inspect

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from antibackdoor import (
    ABLClassifier,
    Joint,
    LossRank,
    Mixed,
    UndefendedClassifier,
    lowest_asr_within,
    make_asr_scorer,
    make_clean_accuracy_scorer,
    make_poisoned,
)
from antibackdoor.attacks import BadNets

#: Stamps flattened images before anything is scaled.
ATTACK = BadNets(image_shape=(8, 8))


@pytest.fixture(scope="module")
def flattened(digits):
    """Digits as rows of 64 floats in [0, 1], 400 of them, and their labels."""
    X, y = digits
    return X[:400].reshape(400, 64) / 255, y[:400]


@pytest.fixture(scope="module")
def poisoned(flattened):
    return make_poisoned(*flattened, attack=ATTACK, poison_rate=0.15, random_state=0)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def scaled(**changes):
    settings = {
        "image_shape": (8, 8),
        "detector": LossRank(ratio=0.01, epochs=2, batch_size=32),
        "cure": Mixed(epochs=1, recovery_epochs=1),
        "epochs": 4,
        "batch_size": 32,
        "random_state": 0,
    }
    return Pipeline(
        [("scale", StandardScaler()), ("abl", ABLClassifier(**{**settings, **changes}))]
    )


def test_pipeline(poisoned, flattened, digits):
    X_bad, y_bad, _ = poisoned
    pipeline = scaled().fit(X_bad, y_bad)
    abl = pipeline.named_steps["abl"]
    assert (abl.input_shape_, abl.n_features_in_) == ((64,), 64)
    # It sees images: the network begins with a convolution over one channel.
    assert abl.module_.state_dict()["body.0.weight"].shape[1:] == (1, 3, 3)
    unseen = digits[0][400:700].reshape(300, 64) / 255
    assert pipeline.score(unseen, digits[1][400:700]) > 0.8
    # The same as scaling by hand.
    rows = StandardScaler().fit(X_bad).transform(X_bad)
    np.testing.assert_array_equal(pipeline.predict_proba(X_bad), abl.predict_proba(rows))
    quick = {"detector": LossRank(epochs=1), "epochs": 1}
    piped, by_hand = scaled(**quick).fit(X_bad, y_bad), scaled(**quick).named_steps["abl"]
    np.testing.assert_array_equal(
        by_hand.fit(rows, y_bad).isolate_scores_, piped.named_steps["abl"].isolate_scores_
    )
    assert pipeline.classes_.tolist() == list(range(10))


def test_grid_search_with_two_jobs_and_two_scorers(poisoned, forked_jobs):
    X_bad, y_bad = (array[::2] for array in poisoned[:2])
    scoring = {"ca": "accuracy", "neg_asr": make_asr_scorer(ATTACK)}
    grid = {"abl__cure": [Mixed(epochs=1, recovery_epochs=1), Joint()]}
    cv = KFold(2)
    search = GridSearchCV(
        scaled(epochs=2),
        grid,
        scoring=scoring,
        refit=lowest_asr_within(0.5),
        cv=cv,
        n_jobs=2,
    ).fit(X_bad, y_bad)
    results = search.cv_results_
    assert np.isfinite([results["mean_test_ca"], results["mean_test_neg_asr"]]).all()
    # The choice, by its definition.
    accurate = results["mean_test_ca"] >= results["mean_test_ca"].max() - 0.5
    lowest = results["mean_test_neg_asr"][accurate].max()
    assert accurate[search.best_index_]
    assert results["mean_test_neg_asr"][search.best_index_] == lowest
    # The winner is the pipeline with these parameters on all rows, bit for bit, and another
    # process found what this one finds.
    alone = scaled(epochs=2).set_params(**search.best_params_)
    np.testing.assert_array_equal(
        search.predict_proba(X_bad), clone(alone).fit(X_bad, y_bad).predict_proba(X_bad)
    )
    train, test = next(cv.split(X_bad))
    alone.fit(X_bad[train], y_bad[train])
    for name, scorer in (("ca", make_clean_accuracy_scorer()), ("neg_asr", scoring["neg_asr"])):
        expected = scorer(alone, X_bad[test], y_bad[test])
        found = results[f"split0_test_{name}"][search.best_index_]
        assert found == pytest.approx(expected, abs=1e-12)


def test_search_over_parameters_of_every_kind(flattened):
    """Backbones, schedules, augmentations and shapes are values that a grid can hold."""
    X, y = flattened
    grid = [
        {"backbone": ["mlp", "small-cnn"]},
        {"lr_schedule": ["cosine", (1,)]},
        {"augment": [None, ("flip",)]},
        {"image_shape": [(8, 8), (4, 16)]},
    ]
    base = UndefendedClassifier(epochs=1, image_shape=(8, 8), random_state=0)
    search = GridSearchCV(base, grid, cv=2, error_score="raise").fit(X[:80], y[:80])
    assert len(search.cv_results_["params"]) == 8
    assert search.best_estimator_.get_params().items() >= search.best_params_.items()


class TakesNoMask(UndefendedClassifier):
    """Fails if anything but X and y reaches fit."""

    def fit(self, X, y, **others):
        assert others == {}
        assert X.shape[1] == 64
        return super().fit(X, y)


def quick(classifier=TakesNoMask):
    return classifier(epochs=2, backbone="mlp", batch_size=32, random_state=0)


def test_mask_is_routed_to_the_scorers_alone(poisoned, routing):
    X_bad, y_bad, mask = poisoned
    cv = KFold(2)
    scores = cross_validate(
        quick(),
        X_bad,
        y_bad,
        cv=cv,
        scoring={
            "ca": make_clean_accuracy_scorer(),
            "neg_asr": make_asr_scorer(ATTACK),
            "plain": "accuracy",
        },
        params={"poison_mask": mask},
        return_estimator=True,
        error_score="raise",
    )
    for fold, (_, test) in enumerate(cv.split(X_bad)):
        clean = test[~mask[test]]
        model = scores["estimator"][fold]
        assert scores["test_ca"][fold] == model.score(X_bad[clean], y_bad[clean])
        assert scores["test_plain"][fold] == model.score(X_bad[test], y_bad[test])
        expected = make_asr_scorer(ATTACK)(model, X_bad[clean], y_bad[clean])
        assert scores["test_neg_asr"][fold] == expected
        assert len(clean) < len(test)
    assert (scores["test_ca"] != scores["test_plain"]).any()


def test_mask_through_a_pipeline_and_a_search(poisoned, routing):
    X_bad, y_bad, mask = poisoned
    pipeline = Pipeline([("scale", StandardScaler()), ("clf", quick())])
    search = GridSearchCV(
        pipeline,
        {"clf__learning_rate": [0.001, 0.1]},
        scoring={"ca": make_clean_accuracy_scorer(), "neg_asr": make_asr_scorer(ATTACK)},
        refit="ca",
        cv=KFold(2),
        error_score="raise",
    ).fit(X_bad, y_bad, poison_mask=mask)
    train, test = next(KFold(2).split(X_bad))
    clean = test[~mask[test]]
    model = clone(search.best_estimator_).fit(X_bad[train], y_bad[train])
    found = search.cv_results_["split0_test_ca"][search.best_index_]
    assert found == model.score(X_bad[clean], y_bad[clean])


def test_fit_has_no_place_for_the_mask(make_tiny, poisoned, routing):
    X_bad, y_bad, mask = poisoned
    estimator = make_tiny(image_shape=(8, 8))
    # Some may be told of rows known to be clean; no fit may be told which are poison.
    told = set(inspect.signature(estimator.fit).parameters) - {"X", "y"}
    assert told <= {"clean_mask", "suspects"}
    assert estimator.get_metadata_routing().fit.requests == dict.fromkeys(told)
    with pytest.raises(TypeError, match="poison_mask"):
        estimator.fit(X_bad, y_bad, poison_mask=mask)
    # Nobody asked for it: scikit-learn says so, and does not pass it on to fit.
    with pytest.raises(TypeError, match="poison_mask"):
        cross_validate(estimator, X_bad, y_bad, params={"poison_mask": mask}, cv=2)


def test_cross_val_predict(flattened):
    X, y = flattened
    model = UndefendedClassifier(epochs=6, image_shape=(8, 8), batch_size=32, random_state=0)
    predicted = cross_val_predict(model, X, y, cv=2)
    assert np.mean(predicted == y) > 0.7
    probabilities = cross_val_predict(model, X, y, cv=2, method="predict_proba")
    np.testing.assert_array_equal(probabilities.argmax(1), predicted)
