"""The search for poison: whether there is any, in which classes, and which rows."""

from __future__ import annotations

import math
import warnings
from dataclasses import field, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from antibackdoor.backbones import Network
from antibackdoor.detection._base import BaseDetector, Detection
from antibackdoor.detection._disturbance import Disturbance
from antibackdoor.detection._parts import SMALLEST_CLASS
from antibackdoor.detection._probes import Probe, Trained
from antibackdoor.detection._search import (
    FEWEST_CLASSES,
    MOST_PROBES,
    SHARE_OF_A_PROBE,
    count_large,
    find_poison,
)
from antibackdoor.detection._select import flag_nothing
from antibackdoor.detection._settings import SETTINGS
from antibackdoor.training import (
    CrossEntropy,
    HeldLoss,
    Passes,
    Run,
    ShuffledRows,
    resolve_batch_size,
)
from antibackdoor.utils import parameters

# Usual samples per step, and limits of the steps of an epoch. A trigger takes a number of steps to
# learn: an epoch on few rows has at least forty. More than 160 come from a small `batch_size` only.
_BATCH = 32
_SMALLEST_BATCH = 8
_FEWEST_STEPS, _MOST_STEPS = 40, 160

# How often a search looks at all rows, or as many, without training: each is a third of a pass.
_LOOKS = 24

# `learning_rate` is for steps of this many samples. Smaller steps are noisier and get a
# proportionally smaller rate: otherwise a small trigger is not learned in few epochs.
_WHOLE_RATE = 64

#: Advice for data that cannot be searched.
INSTEAD = (
    "Flag a share of the rows that you choose (detector=LossRank(ratio=0.05)), or try another "
    "detector (SpectralSignatures, ActivationClustering)."
)


@parameters
class PoisonSearch(BaseDetector):
    """Tests training data for poison, and lists the poisoned classes and rows.

    Call `fit` with all the data there is; no classifier is trained::

        search = PoisonSearch().fit(X, y)
        search.isolate_  # suspect rows, most suspect first
        search.isolate_pvalue_  # small means poisoned
        X_kept, y_kept = search.fit_resample(X, y)

    It needs images of at least four classes with at least twenty rows each. Other data is not
    searched: natural clusters of a table look like poison, and with fewer classes a probe learns
    too little. Then nothing is trained or flagged, the p-value is nan, and `fit` warns
    (UserWarning).

    How it works:

    1. Cross-fitting. A network is trained on all rows. Its loss is held up, so that it does not
       memorise single rows. Two copies are trained further, each on half of the rows.
    2. Each class is split in two parts, by the features that a copy gives to rows of the other
       half.
    3. Each class is tested for signs of poison. In the first, probes, which are networks trained
       without the class, recognise one part as rows of many other classes, and the rest not. In
       the second, the difference of the two parts is added to rows of other classes, which are
       then predicted as this class. A sign counts if it is large compared with the other classes
       of the same data.
    4. All classes are tested at once for a trigger that exchanges them: what their most foreign
       rows share is added to other rows.
    5. Where a test is significant, the two copies learn the suspect rows as a class of their own,
       and find the rest of the poison. If none is, nothing is flagged.

    Parameters
    ----------
    false_alarm_rate : float, default=0.05
        Probability of flagging anything in clean data. It is calibrated on the other classes of
        the same data, and on clean classes of the benchmarks. A class with many wrong labels does
        not count as clean.
    epochs : int, default=20
        Half of them train the first network, on all rows. The other half train its two copies,
        each on its half of the rows. A probe takes a fifth of them, or two fifths if the backbone
        has no convolutions.
    backbone
    batch_size : int or "auto", default=128
        Largest number of samples per training step. Usually 32 are taken: fewer for training on
        less than 1,280 rows, more for training on more than 5,120. That makes about 40 to 160
        steps an epoch.
    learning_rate : float, default=0.1
        Learning rate of stochastic gradient descent, for steps of 64 samples or more. Smaller
        steps have a proportionally smaller rate. For the first network it is constant, for the
        others the peak of one cycle. Convolutions of a probe learn by the polar steps of Muon:
        with all of it for any batch size.
    momentum, weight_decay, image_shape, layout, device, compile, cache_dir
    random_state : int, RandomState instance or None, default=None
        Seed of the weights and the order of the samples.

    Attributes
    ----------
    classes_, isolate_, isolate_mask_
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Suspicion score: probability between 0 and 1 that the row is poison. Below 0.5 in a class
        that is not found poisoned.
    isolate_threshold_
    isolate_classes_ : numpy.ndarray of shape (n_suspect_classes,)
        Labels of the flagged rows: the suspected target classes.
    isolate_pvalue_ : float
        p-value: probability that clean data shows as strong a sign of poison in any class. Small
        means poisoned. nan where nothing could be tested.
    isolate_signs_ : dict of str to numpy.ndarray of shape (n_classes,)
        Evidence of poison in each class of `classes_`, nan for classes that were not tested.
        ``"diversity"``: prediction diversity of the part of the class with the most evidence, under
        networks trained without the class, as a share of that of other classes' rows.
        ``"foreignness"``: how much more the predictions of this part look like rows of other
        classes than like the rest of the class, in nats a row.
        ``"transplant"``: the difference of the two parts of the class is added to rows of other
        classes; how much the share of these rows that is predicted as the class rises, in the half
        of these classes where it rises the least.
        ``"relabelling"``: share of its rows that become one other class when what the foreign rows
        of all classes share is added to them, times how well that tells the classes apart.
    history_, n_features_in_, input_shape_

    See Also
    --------
    LossRank : Flags a fixed share of the rows, as ABL's paper does.
    ABLClassifier : Trains a clean network on what a detector leaves.

    References
    ----------
    Chernozhukov, Chetverikov, Demirer, Duflo, Hansen, Newey & Robins, Double/Debiased Machine
    Learning for Treatment and Structural Parameters, The Econometrics Journal 2018, for
    cross-fitting.

    Guo, Tondi & Barni, Universal Detection of Backdoor Attacks via Density-based Clustering and
    Centroids Analysis, IEEE TIFS 2023, adds the centroid of a cluster to rows of other classes.

    Jin, Sun & Rinard, Incompatibility Clustering as a Defense Against Backdoor Poisoning Attacks,
    ICLR 2023, tests whether parts of the data generalise to each other.

    Examples
    --------
    >>> from antibackdoor import PoisonSearch, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="badnets", random_state=0)
    >>> search = PoisonSearch(epochs=5, random_state=0).fit(X_bad, y_bad)
    >>> search.isolate_classes_
    array([0])
    >>> X_kept, y_kept = search.fit_resample(X_bad, y_bad)
    >>> len(y_kept) == len(y) - len(search.isolate_)
    True
    """

    false_alarm_rate: float = 0.05
    epochs: int = 20
    lr_schedule: str = field(init=False, default="onecycle")
    augment: None = field(init=False, default=None)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
        "epochs": [Interval(Integral, 1, None, closed="left")],
    }

    def _n_phases(self) -> int:
        return MOST_PROBES

    def _passes(self, n_rows: int, *, images: bool = True, reviewed: bool = False) -> list[Passes]:
        """Return those of a search that finds poison."""
        further = (SETTINGS.completion_turns - 1) * SETTINGS.completion_further
        # Of clear poison there is one check, of other poison there are the most.
        checks = (1 + SETTINGS.most_checks) / 2
        # Networks, the share of the epochs that each has, and of the rows that it is trained on.
        trained: list[tuple[int, float, float, Literal["muon", "sgd"]]] = [
            (1, SETTINGS.first_epochs, 1.0, "sgd"),
            (2, 1 - SETTINGS.first_epochs, 0.5, "sgd"),
            (
                SETTINGS.n_groups * SETTINGS.n_probes,
                SETTINGS.probe_epochs,
                SHARE_OF_A_PROBE,
                "muon",
            ),
            (2, checks * SETTINGS.check_epochs, 0.5, "sgd"),
            (2, SETTINGS.completion_epochs + further, 1.0, "sgd"),
        ]
        if not images:
            return []
        expected = [
            Passes(
                networks * share * self.epochs * of_rows,
                of=self,
                batch_size=self._batch_size(int(of_rows * n_rows)),
                optimizer=optimizer,
            )
            for networks, share, of_rows, optimizer in trained
        ]
        return [*expected, Passes(_LOOKS / 3, of=self, batch_size=self._batch_size(n_rows))]

    def _detect(self, run: Run) -> Detection:
        labels = run.labels.cpu().numpy()
        if run.samples.layout is None:
            return self._untested(run, "X is a table, and it looks at images")
        if count_large(labels) < FEWEST_CLASSES:
            return self._untested(
                run,
                f"y has {count_large(labels)} classes of {SMALLEST_CLASS} rows or more, and it "
                f"needs {FEWEST_CLASSES}",
            )
        detection = find_poison(
            run.samples,
            labels,
            probe=self._prober(run),
            false_alarm_rate=self.false_alarm_rate,
            seed=run.draw_seed(),
        )
        if math.isnan(detection.p_value):
            return self._untested(run, "no class of this data has two parts to compare")
        return detection

    def _untested(self, run: Run, why: str) -> Detection:
        """Flag nothing, and warn that the data was not searched."""
        warnings.warn(
            f"{type(self).__name__} has not searched for poison, and flags nothing: {why}. "
            f"{INSTEAD}",
            UserWarning,
            stacklevel=2,
        )
        return Detection.untested(flag_nothing(len(run.samples)))

    def _prober(self, run: Run) -> Probe:
        disturbance = Disturbance(run.samples.usual_range(), run.samples.value_range)

        def probe(
            trained_on: np.ndarray,
            share: float,
            network: Network | None = None,
            *,
            name: str = "probe",
            held: bool = False,
            gently: bool = False,
            disturb: bool = False,
            labels: np.ndarray | None = None,
        ) -> Trained:
            probed = run.new_network() if network is None else network
            called = run.labels if labels is None else torch.as_tensor(labels, device=run.device)
            probed.resize_head(max(probed.head.out_features, int(called.max()) + 1))
            batch_size = self._batch_size(int(trained_on.sum()))
            polar = disturb and any(weights.ndim == 4 for weights in probed.parameters())
            # The length of a polar step is that of the weights, however noisy the gradient.
            rate = self.learning_rate * (1 if polar else min(1, batch_size / _WHOLE_RATE))
            # Without such steps a probe learns half as fast.
            epochs = share * self.epochs * (2 if disturb and not polar else 1)
            losses = run.phase(
                name,
                probed,
                HeldLoss(SETTINGS.held_loss, "batch") if held else CrossEntropy(),
                epochs=math.ceil(epochs),
                recipe=replace(
                    run.recipe,
                    optimizer="muon" if polar else "sgd",
                    learning_rate=rate / 2 if gently else rate,
                    schedule="constant" if held else "onecycle",
                    augmentation=disturbance if disturb else None,
                ),
                batches=ShuffledRows(run.rows(trained_on), batch_size),
                labels=called,
                keep_losses=True,
            )
            return Trained(probed, torch.stack(losses).double().cpu().numpy())

        return probe

    def _batch_size(self, n_samples: int) -> int:
        """Return the samples per step, `batch_size` at most."""
        fewest = n_samples // _MOST_STEPS
        most = max(_SMALLEST_BATCH, n_samples // _FEWEST_STEPS)
        return min(resolve_batch_size(self.batch_size, n_samples), most, max(_BATCH, fewest))
