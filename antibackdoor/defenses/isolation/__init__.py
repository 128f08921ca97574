"""Which training rows are suspected, and how much."""

from antibackdoor.defenses.isolation._losses import LOSS_SCORES, LossScore
from antibackdoor.defenses.isolation._parts import SMALLEST_CLASS
from antibackdoor.defenses.isolation._search import (
    FEWEST_CLASSES,
    INSTEAD,
    MOST_EXAMINATIONS,
    Finding,
    count_large,
    find_poison,
    not_searched,
)
from antibackdoor.defenses.isolation._select import (
    Isolation,
    flag_above,
    flag_most_suspect,
    flag_nothing,
    least_suspect_half,
)

__all__ = [
    "FEWEST_CLASSES",
    "INSTEAD",
    "LOSS_SCORES",
    "MOST_EXAMINATIONS",
    "SMALLEST_CLASS",
    "Finding",
    "Isolation",
    "LossScore",
    "count_large",
    "find_poison",
    "flag_above",
    "flag_most_suspect",
    "flag_nothing",
    "least_suspect_half",
    "not_searched",
]
