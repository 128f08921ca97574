"""The training loop, its objectives, batches and schedules, and the run of a fit."""

from antibackdoor.training._acceleration import Acceleration
from antibackdoor.training._augment import AUGMENTATIONS, Augmentation, resolve_augmentation
from antibackdoor.training._batches import (
    Batches,
    PairedRows,
    ShuffledRows,
    resolve_batch_size,
)
from antibackdoor.training._estimator import NETWORK_PARAMETERS, TrainingEstimator
from antibackdoor.training._inference import compute_features, compute_logits, compute_losses
from antibackdoor.training._loop import ADVICE, Recipe, Training
from antibackdoor.training._mapped import find_place, is_mapped
from antibackdoor.training._objectives import (
    CrossEntropy,
    HeldLoss,
    NegativeLoss,
    Objective,
    Unlearning,
    global_gradient_ascent,
    local_gradient_ascent,
    log_odds,
    negative_losses,
    sample_losses,
)
from antibackdoor.training._optimizers import OPTIMIZERS
from antibackdoor.training._pack import Node, pack, unpack
from antibackdoor.training._parallel import alone, check_same, current_team, joined
from antibackdoor.training._rows import validate_rows
from antibackdoor.training._run import Run
from antibackdoor.training._samples import Samples
from antibackdoor.training._schedules import SCHEDULES, check_schedule
from antibackdoor.training._sealed import DamagedError, head_length, head_of, seal, unseal
from antibackdoor.training._sources import Source
from antibackdoor.training._store import OWN_FILES, PhaseStore
from antibackdoor.training._work import Passes, Work, WorkCallback, count_epochs_named, count_passes

__all__ = [
    "ADVICE",
    "AUGMENTATIONS",
    "SCHEDULES",
    "Acceleration",
    "Augmentation",
    "Batches",
    "OWN_FILES",
    "CrossEntropy",
    "DamagedError",
    "HeldLoss",
    "NETWORK_PARAMETERS",
    "NegativeLoss",
    "Node",
    "OPTIMIZERS",
    "Objective",
    "Passes",
    "PairedRows",
    "PhaseStore",
    "Recipe",
    "Run",
    "Samples",
    "ShuffledRows",
    "Source",
    "Training",
    "TrainingEstimator",
    "Unlearning",
    "Work",
    "WorkCallback",
    "alone",
    "check_same",
    "check_schedule",
    "compute_features",
    "compute_logits",
    "compute_losses",
    "count_epochs_named",
    "count_passes",
    "current_team",
    "find_place",
    "global_gradient_ascent",
    "head_length",
    "head_of",
    "is_mapped",
    "joined",
    "local_gradient_ascent",
    "log_odds",
    "negative_losses",
    "pack",
    "resolve_augmentation",
    "resolve_batch_size",
    "sample_losses",
    "seal",
    "unpack",
    "unseal",
    "validate_rows",
]
