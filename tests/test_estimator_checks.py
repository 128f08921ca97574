"""scikit-learn's own checks, of every classifier and detector: none fails, none is skipped."""

from __future__ import annotations

import inspect
import warnings

import pytest
from sklearn.utils.estimator_checks import check_estimator

from antibackdoor import defenses, detection
from antibackdoor.defenses import BaseDefense
from antibackdoor.detection import BaseDetector, LossRank

ESTIMATORS = [
    member
    for module in (defenses, detection)
    for _, member in inspect.getmembers(module, inspect.isclass)
    if issubclass(member, BaseDefense | BaseDetector) and not inspect.isabstract(member)
]
ALL = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: estimator.__name__)


def test_discovery_finds_the_estimators():
    names = {estimator.__name__ for estimator in ESTIMATORS}
    assert names >= {"ABLClassifier", "CBDClassifier", "UndefendedClassifier"}
    assert names >= {"PoisonSearch", "LossRank", "SpectralSignatures", "ActivationClustering"}


#: Defaults but for long schedules, the detector's too: tables are ranked by their losses.
SHORTER = {
    "ABLClassifier": {"detector": LossRank(epochs=1), "epochs": 8},
    "CBDClassifier": {"detector": LossRank(ratio=None, epochs=1), "epochs": 5},
    "DBDClassifier": {"self_supervised_epochs": 1, "finetune_epochs": 6},
    "UndefendedClassifier": {"epochs": 7},
    "ActivationClustering": {"epochs": 2},
    "SpectralSignatures": {"epochs": 2},
    "LossRank": {"epochs": 2},
    "FinePruningClassifier": {"epochs": 8, "finetune_epochs": 4},
    "ModeConnectivityClassifier": {"epochs": 8, "finetune_epochs": 3},
    "NADClassifier": {"epochs": 8, "finetune_epochs": 4},
}


@pytest.mark.slow
@ALL
def test_check_estimator(estimator):
    estimator = estimator(**SHORTER.get(estimator.__name__, {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks provoke warnings on purpose
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    not_passed = {
        result["check_name"]: result["exception"]
        for result in results
        if result["status"] != "passed"
    }
    assert not_passed == {}
    assert len(results) >= (50 if isinstance(estimator, BaseDefense) else 35)


@ALL
def test_tags_dodge_no_check(estimator):
    tags = estimator().__sklearn_tags__()
    assert tags.input_tags.two_d_array
    assert not tags.no_validation
    assert not tags.non_deterministic
    assert tags.classifier_tags is None or not tags.classifier_tags.poor_score
    assert not tags._skip_test
