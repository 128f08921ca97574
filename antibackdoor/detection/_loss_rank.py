"""The isolation of ABL: poison is learned first, so that rows of low loss are suspect."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from antibackdoor.detection._base import BaseDetector, Detection
from antibackdoor.detection._losses import LOSS_SCORES
from antibackdoor.detection._select import Isolation, flag_most_suspect
from antibackdoor.training import CrossEntropy, HeldLoss, Run, TrainingEstimator
from antibackdoor.utils import parameters


@parameters
class LossRank(BaseDetector):
    """Flags a fixed share of the rows, those of lowest loss, as stage one of ABL does.

    Call `fit` with all the data there is; no classifier is trained::

        detector = LossRank(ratio=0.05).fit(X, y)
        detector.isolate_  # suspect rows, most suspect first
        X_kept, y_kept = detector.fit_resample(X, y)

    A network fits backdoored rows faster than clean ones. Local gradient ascent holds its loss at
    `gamma`: the loss of clean rows stays there, while that of the poison falls below it.

    It does not test whether there is poison: in clean data it flags as many rows.

    Parameters
    ----------
    ratio : float or None, default=0.01
        Share of the rows to flag. None: rank the rows and flag none, for CBD, which needs the
        trained network alone.
    epochs : int, default=20
        Passes over all rows; the paper's turning epoch.
    gamma : float or None, default=0.5
        Level at which the loss is held, in nats. None: it is not held; training is plain.
    reduction : {"batch", "sample"}, default="batch"
        Whether to hold the mean loss of a batch, or the loss of each sample.
    rank_by : {"trajectory", "last_epoch"}, default="trajectory"
        The ranking of the rows. ``"trajectory"``: by the log-loss seen in training, averaged over
        the epochs. ``"last_epoch"``, as in the paper: by the loss of the last epoch.
    backbone : str, torch.nn.Module or callable, default="auto"
        Network to train. Names: ``"mlp"``, ``"small-cnn"``, ``"wrn-16-1"`` or any
        ``"wrn-D-K"``, ``"preact-resnet18"``, any classifier of `torchvision.models`, and
        ``"auto"``, which chooses by the shape of `X`. A module is copied, and the copy is
        trained further. A callable takes the shape of a sample, channels first, and the number
        of classes, and returns a module. The last layer of a module must be the
        `torch.nn.Linear` that gives the logits.
    batch_size : int or "auto", default=128
        Samples per training step. ``"auto"``: a 160th of the rows, from 32 to 128.
    learning_rate : float, default=0.1
        Highest rate of the schedule of stochastic gradient descent.
    lr_schedule : {"onecycle", "cosine", "constant"} or array-like of int, \
            default="constant"
        How the rate changes over the epochs. Integers are the epochs from which it is divided
        by ten once more.
    momentum : float, default=0.9
        Nesterov momentum.
    weight_decay : float, default=5e-4
        Factor of the squared norm of the weights (L2 penalty).
    augment : "auto", None or array-like of {"crop", "flip", "cutout"}, default=None
        Random changes of the images during training. None by default: they blur a local trigger,
        and a held loss does not overfit.
    image_shape : tuple of int, default=None
        Shape of the image in each row of a 2-D `X`: (H, W), (H, W, C) or (C, H, W).
        None: a 2-D `X` is a table.
    layout : {"auto", "channels_first", "channels_last"}, default="auto"
        Position of the channel axis of images. ``"auto"`` infers it from the shape, and raises
        a ValueError where the shape is ambiguous.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA if available, else the CPU.
    compile : {"auto", True, False}, default="auto"
        Whether to train through `torch.compile`. ``"auto"``: on CUDA only. If compiling fails,
        the fit warns once (RuntimeWarning) and continues without it.
    cache_dir : str or path, default=None
        Folder in which every phase of the training is saved, epoch by epoch. It is created if
        missing. A fit that was killed resumes from it. Fits that begin alike, such as those of a
        grid search, train their common phases once. The result is the same as without it, and
        fits may run in parallel. Requires the extra ``[persist]``.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights and the order of the samples.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_classes,)
        Labels, sorted.
    isolate_ : numpy.ndarray of shape (n_isolated,), int64
        Flagged training rows, most suspect first.
    isolate_mask_ : numpy.ndarray of shape (n_samples,), bool
        The same, as a mask.
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Negative log-loss (loss in nats), of the last epoch or averaged over all epochs: higher
        is more suspect.
    isolate_threshold_ : float
        Rows with a score above it are flagged.
    isolate_classes_ : numpy.ndarray of shape (n_suspect_classes,)
        Labels of the flagged rows: the suspected target classes.
    isolate_pvalue_ : float
        nan: nothing is tested.
    isolate_signs_ : dict of str to numpy.ndarray of shape (n_classes,)
        Empty: nothing is tested.
    history_ : list of dict
        One entry an epoch: phase, epoch, objective (value minimised), loss (mean
        cross-entropy, nats), accuracy (on the training labels), learning_rate, seconds.
    n_features_in_ : int
        ``X.shape[1]``.
    input_shape_ : tuple of int
        Shape of one row of `X`.

    See Also
    --------
    PoisonSearch : Tests whether there is poison, and finds how many rows to flag.
    ABLClassifier : Trains a clean network on what a detector leaves.

    References
    ----------
    Li, Lyu, Koren, Lyu, Li & Ma, Anti-Backdoor Learning: Training Clean Models on
    Poisoned Data, NeurIPS 2021.

    Examples
    --------
    >>> from antibackdoor import LossRank, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="badnets", random_state=0)
    >>> detector = LossRank(ratio=0.02, epochs=5, random_state=0).fit(X_bad, y_bad)
    >>> len(detector.isolate_)
    36
    """

    ratio: float | None = 0.01
    epochs: int = 20
    gamma: float | None = 0.5
    reduction: Literal["batch", "sample"] = "batch"
    rank_by: Literal["trajectory", "last_epoch"] = "trajectory"
    lr_schedule: str | Sequence[int] = "constant"
    augment: str | Sequence[str] | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TrainingEstimator._parameter_constraints,
        "ratio": [Interval(Real, 0, 0.5, closed="neither"), None],
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="left"), None],
        "reduction": [StrOptions({"batch", "sample"})],
        "rank_by": [StrOptions(set(LOSS_SCORES))],
    }

    def _n_phases(self) -> int:
        return 1

    def _detect(self, run: Run) -> Detection:
        network = run.new_network()
        objective = CrossEntropy() if self.gamma is None else HeldLoss(self.gamma, self.reduction)
        recorded = run.phase("isolate", network, objective, epochs=self.epochs, keep_losses=True)
        losses = torch.stack(recorded).double().cpu().numpy()
        scores = LOSS_SCORES[self.rank_by](losses)
        isolation = (
            Isolation(scores.astype(np.float64), np.inf)
            if self.ratio is None
            else flag_most_suspect(scores, self.ratio)
        )
        return Detection.untested(
            isolation,
            complementary=isolation.mask,
            is_complete=False,
            network=network,
            losses=losses,
        )
