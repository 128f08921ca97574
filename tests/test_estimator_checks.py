"""scikit-learn's own checks, of every classifier there is: none expected to fail, none skipped."""

from __future__ import annotations

import inspect
import warnings

import pytest
from sklearn.utils.estimator_checks import check_estimator

from antibackdoor import defenses
from antibackdoor.defenses import BaseDefense

CLASSIFIERS = [
    member
    for _, member in inspect.getmembers(defenses, inspect.isclass)
    if issubclass(member, BaseDefense) and not inspect.isabstract(member)
]


def test_discovery_finds_the_classifiers():
    names = {classifier.__name__ for classifier in CLASSIFIERS}
    assert names >= {"ABLClassifier", "CBDClassifier", "UndefendedClassifier"}


#: Defaults but for long schedules.
SHORTER = {
    "ABLClassifier": {"finetune_epochs": 20},
    "CBDClassifier": {"clean_epochs": 10},
    "DBDClassifier": {"self_supervised_epochs": 2, "finetune_epochs": 10},
    "UndefendedClassifier": {"epochs": 20},
    "ActivationClusteringClassifier": {"epochs": 10, "finetune_epochs": 30},
    "SpectralSignaturesClassifier": {"epochs": 10, "finetune_epochs": 30},
    "FinePruningClassifier": {"epochs": 20, "finetune_epochs": 10},
    "ModeConnectivityClassifier": {"epochs": 20, "finetune_epochs": 5},
    "NADClassifier": {"epochs": 30, "finetune_epochs": 10},
}


@pytest.mark.slow
@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda classifier: classifier.__name__)
def test_check_estimator(classifier):
    estimator = classifier(**SHORTER.get(classifier.__name__, {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks provoke warnings on purpose
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    not_passed = {
        result["check_name"]: result["exception"]
        for result in results
        if result["status"] != "passed"
    }
    assert not_passed == {}
    assert len(results) >= 50


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda classifier: classifier.__name__)
def test_tags_dodge_no_check(classifier):
    tags = classifier().__sklearn_tags__()
    assert tags.input_tags.two_d_array
    assert not tags.no_validation
    assert not tags.non_deterministic
    assert not tags.classifier_tags.poor_score
    assert not tags._skip_test
