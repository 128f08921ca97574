"""The training loop, its objectives, batches and schedules, and the run of a fit."""

from antibackdoor.training._acceleration import Acceleration
from antibackdoor.training._augment import Augmentation
from antibackdoor.training._batches import (
    Batches,
    PairedRows,
    ShuffledRows,
    resolve_batch_size,
)
from antibackdoor.training._estimator import TrainingEstimator
from antibackdoor.training._inference import compute_features, compute_logits, compute_losses
from antibackdoor.training._loop import ADVICE, Recipe, Training
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
from antibackdoor.training._parallel import alone, current_team, joined
from antibackdoor.training._run import Run
from antibackdoor.training._samples import Samples
from antibackdoor.training._schedules import check_schedule
from antibackdoor.training._work import Passes, Work, WorkCallback, count_epochs_named, count_passes

__all__ = [
    "ADVICE",
    "Acceleration",
    "Augmentation",
    "Batches",
    "CrossEntropy",
    "HeldLoss",
    "NegativeLoss",
    "Objective",
    "Passes",
    "PairedRows",
    "Recipe",
    "Run",
    "Samples",
    "ShuffledRows",
    "Training",
    "TrainingEstimator",
    "Unlearning",
    "Work",
    "WorkCallback",
    "alone",
    "check_schedule",
    "compute_features",
    "compute_logits",
    "compute_losses",
    "count_epochs_named",
    "count_passes",
    "current_team",
    "global_gradient_ascent",
    "joined",
    "local_gradient_ascent",
    "log_odds",
    "negative_losses",
    "resolve_batch_size",
    "sample_losses",
]
