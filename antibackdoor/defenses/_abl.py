"""Anti-Backdoor Learning: isolate the poison by its low loss, then unlearn it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from joblib import Memory
from sklearn.utils._param_validation import Interval, StrOptions

from antibackdoor.backbones import Backbone, Network
from antibackdoor.defenses._forgetting import Forgetting
from antibackdoor.defenses._memory import remembered
from antibackdoor.defenses._run import Run
from antibackdoor.defenses._searching import SearchingDefense, judge_doubtful
from antibackdoor.defenses.isolation import (
    LOSS_SCORES,
    Finding,
    Isolation,
    flag_above,
    flag_most_suspect,
    least_suspect_half,
    not_searched,
)
from antibackdoor.training import (
    Batches,
    CrossEntropy,
    HeldLoss,
    NegativeLearning,
    Objective,
    PairedRows,
    ShuffledRows,
    Unlearning,
    compute_losses,
)
from antibackdoor.utils import Fitted, FittedNumber

# Share of the trusted rows of a class that unlearning may cost before it is taken back.
_TOLERANCE = 0.5

# A row has lost its label when its probability fell by more than this.
_LOST = 0.5

# What ``isolation_ratio="auto"`` isolates of a table, in which it does not search.
_RATIO_OF_TABLES = 0.01

# Phases of each cure.
_PHASES_OF = {"negative": 1, "retrain": 1, "joint": 1, "ascent": 2, "mixed": 3}

# What the network and the rows depend on before the cure begins, beside the data.
_BEFORE_THE_CURE = (
    "backbone",
    "isolation_epochs",
    "isolation_objective",
    "reduction",
    "gamma",
    "isolation_score",
    "isolation_ratio",
    "false_alarm_rate",
    "batch_size",
    "learning_rate",
    "momentum",
    "weight_decay",
    "image_shape",
    "layout",
)

_COMMON: dict[str, Any] = {
    "isolation_objective": "lga",
    "gamma": 0.5,
    "isolation_score": "last_epoch",
    "isolation_ratio": 0.01,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "augment": ("crop", "flip", "cutout"),
}
_RECIPES: dict[str, dict[str, Any]] = {
    "paper": {
        **_COMMON,
        "isolation_epochs": 20,
        "reduction": "sample",
        "finetune_epochs": 80,
        "unlearning": "joint",
        "unlearning_bound": 10.0,
        "batch_size": 64,
        "lr_schedule": (40, 60),
    },
    "released": {
        **_COMMON,
        "isolation_epochs": 10,
        "reduction": "batch",
        "finetune_epochs": 60,
        "unlearning": "ascent",
        "unlearning_epochs": 4,
        "unlearning_rate": 5e-4,
        "unlearning_bound": None,
        "batch_size": 128,
        "lr_schedule": (40,),
    },
}


class ABLClassifier(SearchingDefense):
    """Anti-Backdoor Learning: trains a clean network on poisoned data.

    A network fits backdoored samples faster than clean ones. Stage one trains with the loss
    held at `gamma`, under which the poison's loss falls through, and isolates the
    poison. Stage two trains without it, learns that its labels say nothing, or unlearns
    it by gradient ascent. No clean data is needed, nor any knowledge of the trigger.

    By default the isolated rows are not a fixed share: each class is split in two by the
    features of stage one, and a class is suspect where the difference of its two parts,
    put on rows of other classes, turns them into it, or where a network that does not
    know the class recognises one part as rows of many others, or else the rows that fit the
    class least. Where none is, nothing is flagged and all rows are trained on.

    Parameters
    ----------
    backbone : str, torch.nn.Module or callable, default="auto"
        A name: ``"mlp"``, ``"small-cnn"``, ``"wrn-16-1"`` or any ``"wrn-D-K"``,
        ``"preact-resnet18"``, any classifier of `torchvision.models`, or ``"auto"``,
        which chooses by the shape of `X`. A module is copied and trained further.
        A callable is given the shape of a sample, channels first, and the number
        of classes, and returns a module. The last layer is a `torch.nn.Linear`
        that gives the logits.
    isolation_epochs : int, default=20
        Epochs of stage one, the paper's turning epoch.
    isolation_objective : {"lga", "flooding"}, default="lga"
        How stage one holds the loss: local gradient ascent (L_LGA of the paper) or flooding.
    reduction : {"batch", "sample"}, default="batch"
        Whether the mean loss of a batch is held, or each sample's own.
    gamma : float, default=0.5
        Level at which the loss is held, in nats.
    isolation_score : {"trajectory", "last_epoch"}, default="trajectory"
        What ranks the rows: the log-loss averaged over the epochs of stage one, as
        training saw it, or the loss of its last epoch alone, as in the paper.
    isolation_ratio : float or "auto", default="auto"
        Share of the rows to isolate, as in the paper; or as many as the data speaks
        against, and nobody where it speaks against none. Of a table, whose natural
        clusters look like poison to the search, ``"auto"`` isolates 0.01.
    false_alarm_rate : float, default=0.05
        Probability to flag anything in clean data, at ``isolation_ratio="auto"``. It rests on
        how clean classes behaved in the benchmarks, not on the data at hand. A class with many
        wrong labels is not clean.
    finetune_epochs : int, default=60
        Epochs of fine-tuning on the rows that were not isolated; `unlearning` says what becomes
        of those that were.
    unlearning : {"auto", "negative", "retrain", "mixed", "ascent", "joint"}, default="auto"
        ``"retrain"``: the fine-tuned network begins anew, without the isolated and the
        doubtful rows; the doubtful ones whose label it does not give in the end are flagged
        too. It needs a nearly complete isolation. ``"negative"``: the same, but that the isolated
        rows are trained on too, by negative learning: the network learns to hold their label for
        no likelier than chance, and so that the trigger says nothing, though a part of the
        poison may not have been isolated. Where the share is found from the data, only rows of a
        class whose poison was recognised as rows of other classes: that of one that nobody was
        asked about, and poison that keeps its true label, is left out. ``"mixed"``: after
        fine-tuning, bounded ascent on the isolated rows beside descent on the less suspect
        half of every class; then recovery. What is flagged in the end are the rows whose label
        the network has lost on the way, which are far more than were isolated. ``"ascent"``:
        after fine-tuning, ascent on the isolated rows alone, the released recipe.
        ``"joint"``: ascent beside descent through all epochs of fine-tuning
        (L_GGA of the paper). These two flag the isolated rows. ``"auto"``: ``"negative"`` where
        the share is found from the data, ``"mixed"`` for a fixed one.
    unlearning_epochs : int, default=10
        Epochs of ``"mixed"`` unlearning, in which a forgotten row no longer pushes;
        ``"ascent"`` takes that many at most, and ends when the isolated rows are
        forgotten or a class loses trusted rows, in which case the last epoch is
        taken back. ``"joint"`` has no use for them.
    unlearning_rate : float, default=0.005
        Learning rate of unlearning; ``"joint"`` has no use for it.
    unlearning_bound : float or None, default=10.0
        Loss in nats at which an isolated row is forgotten and pushes no further.
        None: no bound, as in the paper; ``"ascent"`` then ends at 10 nats.
    recovery_epochs : int, default=10
        Epochs after ``"mixed"`` unlearning on the rows whose label the network still
        gives, in a class that rows were isolated from on the less suspect half of them, and
        on that half of a class that has lost more than half of it. If a class is as bad off
        even so, what was isolated was no backdoor: the weights from before unlearning come
        back and nothing is flagged.
    memory : str, joblib.Memory or None, default=None
        Where stage one and the isolation are kept, so that a search over what comes after
        computes them once; a folder or a memory, as in `sklearn.pipeline.Pipeline`. Callbacks are
        told of their epochs only where they are computed, and what one has cut short is kept
        so. Only for a `backbone` given by name.
    batch_size : int, default=128
        Samples of a step. Where the ratio is found from the data, stage one and the networks
        that are asked take fewer: 32; still fewer of less than 1,280 rows, more of more than
        5,120, for about 40 to 160 steps an epoch, but never more than this.
    learning_rate : float, default=0.1
        Highest rate of the schedule of stochastic gradient descent.
    lr_schedule : {"onecycle", "cosine", "constant"} or array-like of int, \
            default="onecycle"
        How the rate changes over fine-tuning; stage one keeps it constant. Integers
        are the epochs from which it is divided by ten once more.
    momentum : float, default=0.9
        Nesterov momentum.
    weight_decay : float, default=5e-4
        Factor of the squared norm of the weights.
    augment : "auto", None or array-like of {"crop", "flip", "cutout"}, default="auto"
        Random changes of the images after stage one, which has none. ``"auto"``:
        crops of images of 16 pixels and more, and mirror images where they have
        colours.
    image_shape : tuple of int, default=None
        (H, W), (H, W, C) or (C, H, W): what the rows of a 2-D `X` fold into.
        None: a 2-D `X` is a table.
    layout : {"auto", "channels_first", "channels_last"}, default="auto"
        Where images have their channels. ``"auto"`` asks for it, by a ValueError,
        where the shape does not tell.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA where there is one, else the CPU.
    compile : {"auto", True, False}, default="auto"
        Whether networks in training go through `torch.compile`. ``"auto"``: on CUDA. Where that
        fails, one RuntimeWarning says so and the fit goes on without.
    checkpoint_dir : str or path, default=None
        Directory, made if it is not there, in which the fit is written down after every
        epoch. A fit of the same data and parameters goes on from there, to the same result.
        It needs the extra ``[persist]``, and is for one fit at a time: not for searches.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the order of the samples and the augmentation.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_classes,)
        Labels, sorted.
    module_ : torch.nn.Module
        The clean network. It takes float inputs, images as (n, C, H, W), and
        gives logits.
    isolate_ : numpy.ndarray of shape (n_isolated,), int64
        Flagged training rows, most suspect first.
    isolate_mask_ : numpy.ndarray of shape (n_samples,), bool
        The same, as a mask.
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Suspicion of every training row, higher is worse.
    isolate_threshold_ : float
        Rows with a score above it are flagged.
    isolate_classes_ : numpy.ndarray of shape (n_suspect_classes,)
        Labels that bear the flagged rows: the suspect target classes.
    isolate_pvalue_ : float
        Probability that clean data shows as strong a sign of poison in any class; nan for a
        fixed ratio, a table or too few classes, where nothing is tested. Images of fewer than
        four classes of twenty rows cannot be searched: a UserWarning says so, and nothing is
        flagged.
    isolate_signs_ : dict of str to numpy.ndarray of shape (n_classes,)
        What speaks against each class of `classes_`: ``"transplant"``, rise of the share of rows
        of other classes that are taken for it; ``"diversity"``: how differently a network that
        does not know the class takes the rows of a part of it, as a share of what rows of other
        classes give; ``"misfits"``: the diversity of the tenth of its rows that fit the class
        least, less that of the half that fit it best. nan where it was not asked for. Empty
        where nothing is tested.
    unlearned_ : bool
        False where nothing was isolated or ``"mixed"`` unlearning was taken back: the
        network is then as fine-tuning left it, with whatever backdoor there is. A longer
        stage one often mends it.
    history_ : list of dict
        A row for every epoch: phase, epoch, objective (value minimised), loss (mean
        cross-entropy, nats), accuracy (both on the labels that came with the rows of the
        phase, those to be unlearned among them), learning_rate, seconds.
    n_features_in_ : int
        ``X.shape[1]``.
    input_shape_ : tuple of int
        Shape of a row of `X`.

    See Also
    --------
    CBDClassifier : Trains away from what a backdoored network sees.
    UndefendedClassifier : The same training without a defence.

    References
    ----------
    Li, Lyu, Koren, Lyu, Li & Ma, Anti-Backdoor Learning: Training Clean Models on
    Poisoned Data, NeurIPS 2021.

    Kim, Yim, Yun & Kim, NLNL: Negative Learning for Noisy Labels, ICCV 2019.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="badnets", random_state=0)
    >>> clf = ABLClassifier(isolation_epochs=5, finetune_epochs=5, random_state=0)
    >>> clf = clf.fit(X_bad, y_bad)
    >>> clf.isolate_classes_
    array([0])
    """

    unlearned_: bool

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SearchingDefense._parameter_constraints,
        "isolation_epochs": [Interval(Integral, 1, None, closed="left")],
        "isolation_objective": [StrOptions({"lga", "flooding"})],
        "reduction": [StrOptions({"batch", "sample"})],
        "gamma": [Interval(Real, 0, None, closed="left")],
        "isolation_score": [StrOptions(set(LOSS_SCORES))],
        "isolation_ratio": [Interval(Real, 0, 0.5, closed="neither"), StrOptions({"auto"})],
        "finetune_epochs": [Interval(Integral, 1, None, closed="left")],
        "unlearning": [StrOptions({"auto", *_PHASES_OF})],
        "unlearning_epochs": [Interval(Integral, 1, None, closed="left")],
        "unlearning_rate": [Interval(Real, 0, None, closed="neither")],
        "unlearning_bound": [Interval(Real, 0, None, closed="neither"), None],
        "recovery_epochs": [Interval(Integral, 1, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        **SearchingDefense._fitted_constraints,
        "unlearned_": FittedNumber(kind=bool),
    }

    def __init__(
        self,
        *,
        backbone: Backbone = "auto",
        isolation_epochs: int = 20,
        isolation_objective: Literal["lga", "flooding"] = "lga",
        reduction: Literal["batch", "sample"] = "batch",
        gamma: float = 0.5,
        isolation_score: str = "trajectory",
        isolation_ratio: float | Literal["auto"] = "auto",
        false_alarm_rate: float = 0.05,
        finetune_epochs: int = 60,
        unlearning: Literal["auto", "negative", "retrain", "mixed", "ascent", "joint"] = "auto",
        unlearning_epochs: int = 10,
        unlearning_rate: float = 0.005,
        unlearning_bound: float | None = 10.0,
        recovery_epochs: int = 10,
        memory: str | Memory | None = None,
        batch_size: int = 128,
        learning_rate: float = 0.1,
        lr_schedule: str | Sequence[int] = "onecycle",
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        augment: str | Sequence[str] | None = "auto",
        image_shape: Sequence[int] | None = None,
        layout: Literal["auto", "channels_first", "channels_last"] = "auto",
        device: str | torch.device = "auto",
        compile: bool | Literal["auto"] = "auto",
        checkpoint_dir: str | os.PathLike[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            batch_size=batch_size,
            learning_rate=learning_rate,
            lr_schedule=lr_schedule,
            momentum=momentum,
            weight_decay=weight_decay,
            augment=augment,
            image_shape=image_shape,
            layout=layout,
            device=device,
            compile=compile,
            checkpoint_dir=checkpoint_dir,
            random_state=random_state,
        )
        self.isolation_epochs = isolation_epochs
        self.isolation_objective = isolation_objective
        self.reduction = reduction
        self.gamma = gamma
        self.isolation_score = isolation_score
        self.isolation_ratio = isolation_ratio
        self.false_alarm_rate = false_alarm_rate
        self.finetune_epochs = finetune_epochs
        self.unlearning = unlearning
        self.unlearning_epochs = unlearning_epochs
        self.unlearning_rate = unlearning_rate
        self.unlearning_bound = unlearning_bound
        self.recovery_epochs = recovery_epochs
        self.memory = memory

    @classmethod
    def from_paper(cls, recipe: Literal["paper", "released"] = "paper", **changes: Any) -> Self:
        """Return the classifier with the settings of the paper or of its released code.

        Both rank the rows by the loss of the last epoch of stage one and isolate one per
        cent. Learning rate 0.1, weight decay 1e-4; the momentum is Nesterov's, unlike
        theirs. For tables, whose rows cannot be augmented, give ``augment=None``.

        Parameters
        ----------
        recipe : {"paper", "released"}, default="paper"
            ``"paper"``: twenty epochs of local gradient ascent on each sample at a level
            of 0.5, then eighty of global gradient ascent; batches of 64. L_GGA has
            no lower bound and diverges at this rate, so an isolated row pushes until its
            loss is 10 nats. ``"released"``: ten epochs of local gradient ascent on the
            batch mean, sixty of fine-tuning, four of ascent on the isolated rows alone
            at a rate of 5e-4; batches of 128.
        **changes : dict
            Parameters to set otherwise.

        Returns
        -------
        ABLClassifier

        Raises
        ------
        ValueError
            If there is no such recipe.
        """
        if recipe not in _RECIPES:
            raise ValueError(f"recipe={recipe!r}; wanted one of {sorted(_RECIPES)}.")
        return cls(**{**_RECIPES[recipe], **changes})

    def _n_phases(self) -> int:
        of_cure = _PHASES_OF.get(self.unlearning, max(_PHASES_OF.values()))
        return 1 + self._n_examinations() + of_cure

    def _cure(self, run: Run) -> str:
        if self.unlearning != "auto":
            return self.unlearning
        return "negative" if self._searches(run) else "mixed"

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        network = run.new_network()
        finding = remembered(
            self.memory,
            run,
            network,
            {name: getattr(self, name) for name in _BEFORE_THE_CURE},
            lambda: self._isolate(run, network),
        )
        isolation = finding.isolation
        self._keep_finding(run, finding)
        self.unlearned_ = bool(isolation.mask.any())
        cure = self._cure(run)
        if cure in ("negative", "retrain"):
            # From new weights: what has seen the trigger once brings it back.
            network = run.new_network()
            denied = finding.denied if cure == "negative" else np.zeros_like(finding.denied)
            objective = NegativeLearning(torch.as_tensor(denied, device=run.device))
            self._finetune(run, network, finding.trusted | denied, objective)
            isolation = judge_doubtful(run, network, isolation, finding.trusted)
        elif not isolation.mask.any():
            self._finetune(run, network, ~isolation.mask, CrossEntropy())
        elif cure == "joint":
            self._finetune(run, network, ~isolation.mask, self._ascent(run, isolation), isolation)
        elif cure == "ascent":
            self._finetune(run, network, ~isolation.mask, CrossEntropy())
            self._unlearn_alone(run, network, isolation)
        else:
            self._finetune(run, network, ~isolation.mask, CrossEntropy())
            isolation = self._unlearn_mixed(run, network, isolation)
        return network, isolation

    def _isolate(self, run: Run, network: Network) -> Finding:
        recorded = self._run_phase(
            run,
            "isolate",
            network,
            epochs=self.isolation_epochs,
            objective=HeldLoss(self.isolation_objective, self.gamma, self.reduction),
            recipe=self._recipe(run, schedule="constant", augmentation=None),
            batches=ShuffledRows(run.every_row, self._search_batch(run)),
            keep_losses=True,
        )
        losses = torch.stack(recorded).double().cpu().numpy()
        scores = LOSS_SCORES[self.isolation_score](losses)
        if not self._searches(run):
            ratio = _RATIO_OF_TABLES if self.isolation_ratio == "auto" else self.isolation_ratio
            return not_searched(flag_most_suspect(scores, ratio))
        return self._search(run, network, scores, self.isolation_epochs)

    def _finetune(
        self,
        run: Run,
        network: Network,
        trained_on: np.ndarray,
        objective: Objective,
        beside: Isolation | None = None,
    ) -> None:
        others = ShuffledRows(run.rows(trained_on), self.batch_size)
        self._run_phase(
            run,
            "finetune",
            network,
            epochs=self.finetune_epochs,
            objective=objective,
            recipe=self._recipe(run),
            batches=others if beside is None else self._beside_isolated(run, beside, others),
        )

    def _unlearn_alone(self, run: Run, network: Network, isolation: Isolation) -> None:
        self._run_phase(
            run,
            "unlearn",
            network,
            epochs=self.unlearning_epochs,
            objective=self._ascent(run, isolation),
            recipe=self._recipe(
                run, learning_rate=self.unlearning_rate, schedule="constant", augmentation=None
            ),
            batches=ShuffledRows(run.rows(isolation.mask), self.batch_size),
            stop=self._watch(run, network, isolation).forgotten_or_harmful,
        )

    def _unlearn_mixed(self, run: Run, network: Network, isolation: Isolation) -> Isolation:
        labels = run.labels.cpu().numpy()
        before = _label_probabilities(run, network)
        trusted = _trusted(run, isolation)
        watch = self._watch(run, network, isolation)
        self._run_phase(
            run,
            "unlearn",
            network,
            epochs=self.unlearning_epochs,
            objective=self._ascent(run, isolation),
            recipe=self._recipe(run, learning_rate=self.unlearning_rate, schedule="constant"),
            batches=self._beside_isolated(
                run, isolation, ShuffledRows(run.rows(trusted), self.batch_size)
            ),
        )

        lost = before - _label_probabilities(run, network) > _LOST
        # A class that lost too many of its trusted rows gets them back, or ascent on
        # its label would have taken the class along with the trigger.
        harmed = _share_by_class(lost[trusted], labels[trusted])[labels] > _TOLERANCE
        # Of a class that rows were isolated from, none but the trusted: a few triggered
        # rows that are still in bring the trigger back.
        suspect = np.isin(labels, labels[isolation.mask])
        agreeing = ~lost & ~isolation.mask & (trusted | ~suspect)
        self._run_phase(
            run,
            "recover",
            network,
            epochs=self.recovery_epochs,
            objective=CrossEntropy(),
            recipe=self._recipe(run, learning_rate=self.learning_rate / 10),
            batches=ShuffledRows(run.rows(agreeing | (trusted & harmed)), self.batch_size),
        )
        if watch.undo_harm():
            self.unlearned_ = False
            return Isolation(isolation.scores, np.inf)
        # What a class that nothing was isolated from has lost is no sign of the trigger.
        scores = before - _label_probabilities(run, network)
        return flag_above(np.where(suspect, scores, np.minimum(scores, _LOST)), _LOST)

    def _beside_isolated(self, run: Run, isolation: Isolation, others: Batches) -> PairedRows:
        # The isolated rows are few: a quarter of a batch of them is enough.
        return PairedRows(others, run.rows(isolation.mask), max(1, self.batch_size // 4))

    def _ascent(self, run: Run, isolation: Isolation) -> Unlearning:
        isolated = torch.as_tensor(isolation.mask, device=run.device)
        return Unlearning(isolated, self.unlearning_bound)

    def _watch(self, run: Run, network: Network, isolation: Isolation) -> Forgetting:
        return Forgetting(
            network,
            run.samples,
            run.labels,
            isolated=run.rows(isolation.mask),
            trusted=run.rows(_trusted(run, isolation)),
            level=10.0 if self.unlearning_bound is None else self.unlearning_bound,
            tolerance=_TOLERANCE,
        )


def _trusted(run: Run, isolation: Isolation) -> np.ndarray:
    """Pick rows to hold on to: the less suspect half of every class."""
    return least_suspect_half(isolation.scores, run.labels.cpu().numpy(), isolation.mask)


def _share_by_class(marked: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the share of marked rows in each class, all of which have rows."""
    return np.bincount(labels, marked) / np.bincount(labels)


def _label_probabilities(run: Run, network: Network) -> np.ndarray:
    """Return the probability that a network gives to the label of every row."""
    losses = compute_losses(network, run.samples, run.labels)
    return torch.exp(-losses.double()).cpu().numpy()
