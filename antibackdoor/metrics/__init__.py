"""Metrics and scorers: clean accuracy, attack success rate, precision and recall of flags."""

from antibackdoor.metrics._isolation import isolation_f1, isolation_precision, isolation_recall
from antibackdoor.metrics._labels import (
    attack_success_rate,
    clean_accuracy,
    robust_accuracy,
    target_recall,
)
from antibackdoor.metrics._refit import lowest_asr_within
from antibackdoor.metrics._retention import make_retention_scorer, suspect_retention
from antibackdoor.metrics._scorers import (
    make_asr_scorer,
    make_clean_accuracy_scorer,
    make_robust_accuracy_scorer,
)

__all__ = [
    "attack_success_rate",
    "clean_accuracy",
    "isolation_f1",
    "isolation_precision",
    "isolation_recall",
    "lowest_asr_within",
    "make_asr_scorer",
    "make_clean_accuracy_scorer",
    "make_retention_scorer",
    "make_robust_accuracy_scorer",
    "robust_accuracy",
    "suspect_retention",
    "target_recall",
]
