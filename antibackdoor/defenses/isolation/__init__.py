"""Which training rows are suspected, and how much."""

from antibackdoor.defenses.isolation._losses import LOSS_SCORES, LossScore
from antibackdoor.defenses.isolation._search import (
    MOST_EXAMINATIONS,
    Finding,
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
    "LOSS_SCORES",
    "MOST_EXAMINATIONS",
    "Finding",
    "Isolation",
    "LossScore",
    "find_poison",
    "flag_above",
    "flag_most_suspect",
    "flag_nothing",
    "least_suspect_half",
    "not_searched",
]
