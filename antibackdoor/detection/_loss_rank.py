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
from antibackdoor.training import CrossEntropy, HeldLoss, Run
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
    backbone, batch_size, learning_rate
    lr_schedule : {"onecycle", "cosine", "constant"} or array-like of int, \
            default="constant"
        How the rate changes over the epochs. Integers are the epochs from which it is divided
        by ten once more.
    momentum, weight_decay
    augment : "auto", None or array-like of {"crop", "flip", "cutout"}, default=None
        Random changes of the images during training. None by default: they blur a local trigger,
        and a held loss does not overfit.
    image_shape, layout, device, compile, cache_dir
    random_state : int, RandomState instance or None, default=None
        Seed of the weights and the order of the samples.

    Attributes
    ----------
    classes_, isolate_, isolate_mask_
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Negative log-loss (loss in nats), of the last epoch or averaged over all epochs: higher
        is more suspect.
    isolate_threshold_
    isolate_classes_ : numpy.ndarray of shape (n_suspect_classes,)
        Labels of the flagged rows: the suspected target classes.
    isolate_pvalue_ : float
        nan: nothing is tested.
    isolate_signs_ : dict of str to numpy.ndarray of shape (n_classes,)
        Empty: nothing is tested.
    history_, n_features_in_, input_shape_

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
