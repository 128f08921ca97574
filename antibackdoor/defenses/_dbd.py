"""Decoupling-based Backdoor Defense: features without labels, labels only where they fit."""

from __future__ import annotations

from dataclasses import field, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from torch import nn

from antibackdoor.backbones import Network
from antibackdoor.defenses._base import BaseDefense
from antibackdoor.defenses._contrast import Contrast, RandomViews
from antibackdoor.defenses._credibility import HeadTraining, pick_credible, symmetric_cross_entropy
from antibackdoor.defenses._mixmatch import MixMatch
from antibackdoor.detection import Isolation, flag_above
from antibackdoor.training import PairedRows, Run, ShuffledRows, compute_features, current_team
from antibackdoor.utils import MASK_OF_ROWS, Fitted, parameters

# Outputs of SimCLR's projection head, and the most hidden units of it: the features of a network
# without a body may be a whole image.
_N_PROJECTED = 128
_MOST_HIDDEN = 2048


@parameters
class DBDClassifier(BaseDefense):
    """Decoupling-based Backdoor Defense: learns features without labels, then drops bad labels.

    Call `fit` with all the data there is, then `predict`::

        clf = DBDClassifier().fit(X, y)
        clf.predict(X_test)  # by a network trained on the credible labels
        clf.isolate_scores_  # higher is more suspect; no row is flagged

    A network learns the trigger together with the attacker's label, so they are separated. There
    are three phases:

    1. Self-supervised learning (SimCLR) of the body, from two random views of each row, without
       labels. In these features poisoned rows lie near the rows that they look like.
    2. Training of the head alone, on all rows. Rows whose label it fits badly lose the label.
    3. Semi-supervised learning (MixMatch) of the whole network: the credible rows with their
       labels, the others without.

    It ranks all rows but flags none, since half of any data loses its labels.

    Use it on images. A crop of an image often lacks the trigger. A view of a table's row keeps
    most of it, and digits given as a table kept their backdoor. Do not save on self-supervised
    epochs: with poor features the head learns little but the trigger.

    The views of an image are SimCLR's random crops with changed colours, but for the order of
    the changes and the blur. In a view of a table's row three features in ten come from other
    rows.

    Parameters
    ----------
    self_supervised_epochs : int, default=200
        Epochs of self-supervised learning of the body. Each epoch shows two views of every row.
    self_supervised_batch_size : int, default=256
        Samples per step of self-supervised learning. Each sample is contrasted with all others of
        its batch, so that larger batches teach more.
    self_supervised_rate : float, default=0.2
        Highest learning rate of self-supervised learning, under the same schedule.
    head_epochs : int, default=10
        Epochs of the head alone, by symmetric cross-entropy.
    filtering_rate : float, default=0.5
        Share of the rows whose labels are dropped: those of the highest symmetric cross-entropy,
        over all classes together, as in the paper. In every class the row of the lowest one keeps
        its label.
    finetune_epochs : int, default=60
        Epochs of the whole network, by MixMatch. An epoch takes every row with a label once, and
        as many without one.
    unlabelled_weight : float, default=15.0
        Weight lambda_U of the loss on rows without a label. It rises to this value from zero over
        the `finetune_epochs`.
    backbone
    batch_size : int or "auto", default=128
        Samples per step of the head, and labelled samples per step of MixMatch.
        ``"auto"``: a 160th of the rows, from 32 to 128.
    optimizer : {"muon", "sgd"}, default="sgd"
        Of self-supervised learning and MixMatch; see `UndefendedClassifier`.
    learning_rate : float, default=0.1
        Highest rate of the schedule, for the head and for MixMatch.
    lr_schedule, momentum, weight_decay
    augment : "auto", None or array-like of {"crop", "flip", "cutout"}, default="auto"
        Random changes of the images in the last phase. ``"auto"``: ``"crop"`` for images of 16
        pixels and more, ``"flip"`` for colour images. The views of the first phase are mirrored
        if it includes ``"flip"``, and otherwise do not depend on it.
    image_shape, layout, device, compile, cache_dir
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, the order of the samples, the views, the augmentation and the
        mixing.

    Attributes
    ----------
    classes_, module_
    credible_mask_ : numpy.ndarray of shape (n_samples,), bool
        Rows that kept their label in the last phase. Most of the other rows are clean.
    isolate_ : numpy.ndarray of shape (n_isolated,), int64
        Empty: a label that is not credible does not make a row suspect.
    isolate_classes_ : numpy.ndarray of shape (0,)
        Labels of the flagged rows: empty.
    isolate_mask_
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Symmetric cross-entropy of every row under the head of the second phase, in nats: higher
        is more suspect. Hard clean rows rank as high as poison.
    isolate_threshold_ : float
        Infinity.
    history_ : list of dict
        One entry an epoch: phase, epoch, objective (value minimised), loss (mean
        cross-entropy, nats), accuracy (on the training labels), learning_rate, seconds. In
        the first phase the head is not trained yet. In the last, samples are mixtures, and loss
        and accuracy include the dropped labels: read the objective there.
    n_features_in_, input_shape_

    See Also
    --------
    ABLClassifier : Flags rows where it finds signs of poison.
    CBDClassifier : Trains away from what a backdoored network sees.

    References
    ----------
    Huang, Li, Wu, Qin & Ren, Backdoor Defense via Decoupling the Training Process, ICLR 2022.

    Chen, Kornblith, Norouzi & Hinton, A Simple Framework for Contrastive Learning of Visual
    Representations, ICML 2020.

    Wang, Ma, Chen, Luo, Yi & Bailey, Symmetric Cross Entropy for Robust Learning with Noisy
    Labels, ICCV 2019.

    Berthelot, Carlini, Goodfellow, Papernot, Oliver & Raffel, MixMatch: A Holistic Approach to
    Semi-Supervised Learning, NeurIPS 2019.

    Examples
    --------
    >>> from antibackdoor import DBDClassifier, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X[:300], y[:300], random_state=0)
    >>> clf = DBDClassifier(self_supervised_epochs=1, finetune_epochs=1, random_state=0)
    >>> clf = clf.fit(X_bad, y_bad)
    >>> clf.credible_mask_.shape
    (300,)
    >>> clf.isolate_
    array([], dtype=int64)
    """

    self_supervised_epochs: int = 200
    self_supervised_batch_size: int = 256
    self_supervised_rate: float = 0.2
    head_epochs: int = 10
    filtering_rate: float = 0.5
    finetune_epochs: int = 60
    unlabelled_weight: float = 15.0
    batch_size: int | Literal["auto"] = 128
    optimizer: Literal["sgd", "muon"] = "sgd"

    flags_rows = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "self_supervised_epochs": [Interval(Integral, 1, None, closed="left")],
        "self_supervised_batch_size": [Interval(Integral, 2, None, closed="left")],
        "self_supervised_rate": [Interval(Real, 0, None, closed="neither")],
        "head_epochs": [Interval(Integral, 1, None, closed="left")],
        "filtering_rate": [Interval(Real, 0, 1, closed="left")],
        "finetune_epochs": [Interval(Integral, 1, None, closed="left")],
        "unlabelled_weight": [Interval(Real, 0, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "credible_mask_": MASK_OF_ROWS,
    }

    credible_mask_: np.ndarray = field(init=False)

    @classmethod
    def from_paper(cls, **changes: Any) -> Self:
        """Return the classifier with the settings of the paper.

        The three phases:

        1. 1000 self-supervised epochs, in batches of 512. The learning rate falls from 0.4 along
           a cosine.
        2. 10 epochs of the head. Half of the labels are dropped.
        3. 190 epochs of MixMatch, in batches of 64, with lambda_U of 15.

        Four things differ from the paper. Head and network are trained by stochastic gradient
        descent, not by Adam. The head is trained in batches of 64 too, on features of rows
        without augmentation. Views are not blurred. The length of an epoch of MixMatch is ours:
        the paper names none.

        Parameters
        ----------
        **changes : dict
            Parameters to change.

        Returns
        -------
        DBDClassifier
        """
        settings: dict[str, Any] = {
            "self_supervised_epochs": 1000,
            "self_supervised_batch_size": 512,
            "self_supervised_rate": 0.4,
            "head_epochs": 10,
            "filtering_rate": 0.5,
            "finetune_epochs": 190,
            "unlabelled_weight": 15.0,
            "batch_size": 64,
            "lr_schedule": "cosine",
            "optimizer": "sgd",
            "momentum": 0.9,
            "weight_decay": 5e-4,
        }
        return cls(**{**settings, **changes})

    def _n_phases(self) -> int:
        return 3

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        network = run.new_network()
        self._train_body(run, network)
        losses = self._train_head(run, network)
        # The scores of one process: a last digit more or less would select other rows.
        scores = current_team().from_first(losses.double().cpu().numpy)
        labels = run.labels.cpu().numpy()
        self.credible_mask_ = pick_credible(scores, labels, self.filtering_rate)
        self._finetune(run, network)
        return network, flag_above(scores, np.inf)

    def _train_body(self, run: Run, network: Network) -> None:
        """Train the body by self-supervised learning."""
        n_features = network.head.in_features
        n_hidden = min(n_features, _MOST_HIDDEN)
        projection = nn.Sequential(
            nn.Linear(n_features, n_hidden), nn.ReLU(), nn.Linear(n_hidden, _N_PROJECTED)
        ).to(run.device, run.samples.dtype)
        augmentation = run.recipe.augmentation
        flip = augmentation is not None and "flip" in augmentation.names
        run.phase(
            "contrast",
            network,
            Contrast(RandomViews(flip, run.generator), projection),
            epochs=self.self_supervised_epochs,
            recipe=replace(run.recipe, learning_rate=self.self_supervised_rate, augmentation=None),
            batches=ShuffledRows(run.every_row, self.self_supervised_batch_size),
            parameters=[*network.body.parameters(), *projection.parameters()],
        )

    def _train_head(self, run: Run, network: Network) -> torch.Tensor:
        """Train the head on all rows, and return the loss of each."""
        # The body is frozen: its features are computed once.
        features = compute_features(network, run.samples)
        run.phase(
            "head",
            network,
            HeadTraining(features),
            epochs=self.head_epochs,
            recipe=replace(run.recipe, augmentation=None),
            parameters=network.head.parameters(),
        )
        with torch.no_grad():
            return symmetric_cross_entropy(network.head(features), run.labels)

    def _finetune(self, run: Run, network: Network) -> None:
        """Train the whole network, with the labels of the credible rows."""
        batches = PairedRows(
            ShuffledRows(run.rows(self.credible_mask_), run.batch_size),
            run.rows(~self.credible_mask_),
            run.batch_size,
        )
        run.phase(
            "finetune",
            network,
            MixMatch(
                n_unlabelled=batches.n_beside,
                augmentation=run.recipe.augmentation,
                weight=self.unlabelled_weight,
                n_steps=self.finetune_epochs * len(batches),
                generator=run.generator,
            ),
            epochs=self.finetune_epochs,
            recipe=replace(run.recipe, augmentation=None),
            batches=batches,
        )
