"""Fine-pruning: prune what clean rows leave dormant, then fine-tune on them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from torch import nn

from antibackdoor.backbones import Backbone, Network
from antibackdoor.defenses._cleansing import CleansingDefense
from antibackdoor.detection import Isolation, flag_nothing
from antibackdoor.training import CrossEntropy, Run, compute_features
from antibackdoor.utils import Fitted, FittedArray


class FinePruningClassifier(CleansingDefense):
    """Fine-pruning: removes what clean rows do not use, and mends the rest with them.

    A backdoor sits, in part, in channels that only the trigger excites. The network is
    trained on all rows; the channels that feed its head are ranked by their mean absolute
    activation over rows known to be clean, and the least active are pruned as long as the
    accuracy on these rows holds. Fine-tuning on them follows, in which pruned channels stay
    pruned.

    Parameters
    ----------
    epochs : int, default=60
        Passes over all rows.
    max_accuracy_drop : float, default=0.04
        How far pruning may lower the accuracy on the clean rows.
    finetune_epochs : int, default=20
        Epochs of fine-tuning on the clean rows.
    finetune_rate : float, default=0.05
        Highest learning rate of that, under the same schedule. Much of the backdoor goes by the
        rate: too low a one leaves it in.
    clean_share : float, default=0.05
        Share of the rows of every class, one at least, that are taken for clean where `fit`
        is given no ``clean_mask``; with one it is not used. They are taken as they come: if the
        data holds poison, some of it comes along, and the defence then mends little or nothing.
    backbone : str, torch.nn.Module or callable, default="auto"
        A name: ``"mlp"``, ``"small-cnn"``, ``"wrn-16-1"`` or any ``"wrn-D-K"``,
        ``"preact-resnet18"``, any classifier of `torchvision.models`, or ``"auto"``,
        which chooses by the shape of `X`. A module is copied and trained further.
        A callable is given the shape of a sample, channels first, and the number
        of classes, and returns a module. The last layer is a `torch.nn.Linear`
        that gives the logits.
    batch_size : int, default=128
        Samples of a step. Fewer, eight at least, where the clean rows are few, so that an epoch on
        them has twenty steps.
    learning_rate : float, default=0.1
        Highest rate of the schedule of stochastic gradient descent, on all rows.
    lr_schedule : {"onecycle", "cosine", "constant"} or array-like of int, \
            default="onecycle"
        How the rate changes over the epochs of each phase. Integers are the epochs from
        which it is divided by ten once more.
    momentum : float, default=0.9
        Nesterov momentum.
    weight_decay : float, default=5e-4
        Factor of the squared norm of the weights.
    augment : "auto", None or array-like of {"crop", "flip", "cutout"}, default="auto"
        Random changes of the images during training. ``"auto"``: crops of images of
        16 pixels and more, and mirror images where they have colours.
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
    cache_dir : str or path, default=None
        Folder, made if it is not there, in which every phase of the training is kept, epoch by
        epoch. A fit that was killed goes on from there, and fits that begin alike, such as those
        of a search, train what they share once: to the same result, any number at a time. It
        needs the extra ``[persist]``.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the order of the samples, the augmentation and the draw of
        `clean_share`.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_classes,)
        Labels, sorted.
    module_ : torch.nn.Module
        The cleansed network. It takes float inputs, images as (n, C, H, W), and
        gives logits.
    clean_mask_ : numpy.ndarray of shape (n_samples,), bool
        Rows that were taken for clean.
    pruned_ : numpy.ndarray of shape (n_pruned,), int64
        Channels whose weights in the head are zero, least active first.
    isolate_ : numpy.ndarray of shape (n_isolated,), int64
        Empty: no row is suspected.
    isolate_classes_ : numpy.ndarray of shape (0,)
        Labels of the flagged rows, of which there are none.
    isolate_mask_ : numpy.ndarray of shape (n_samples,), bool
        The same, as a mask.
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Zeros.
    isolate_threshold_ : float
        Rows with a score above it are flagged.
    history_ : list of dict
        A row for every epoch: phase, epoch, objective (value minimised), loss (mean
        cross-entropy, nats), accuracy (on the training labels), learning_rate, seconds.
    n_features_in_ : int
        ``X.shape[1]``.
    input_shape_ : tuple of int
        Shape of a row of `X`.

    See Also
    --------
    NADClassifier : Is given clean rows too, and distils instead of pruning.
    ABLClassifier : Needs no clean rows.

    References
    ----------
    Liu, Dolan-Gavitt & Garg, Fine-Pruning: Defending Against Backdooring Attacks on Deep
    Neural Networks, RAID 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor import FinePruningClassifier, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="badnets", random_state=0)
    >>> checked_by_hand = ~poison_mask & (np.arange(len(y)) < 150)
    >>> clf = FinePruningClassifier(epochs=5, finetune_epochs=2, random_state=0)
    >>> clf = clf.fit(X_bad, y_bad, clean_mask=checked_by_hand)
    >>> bool(clf.module_.head.weight[:, clf.pruned_].any())
    False
    """

    pruned_: np.ndarray

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CleansingDefense._parameter_constraints,
        "max_accuracy_drop": [Interval(Real, 0, 1, closed="both")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        **CleansingDefense._fitted_constraints,
        "pruned_": FittedArray(
            dtype="int64",
            shape=lambda clf: (range(clf.module_weights["head.weight"].shape[1]),),
            low=0,
            high=lambda clf: clf.module_weights["head.weight"].shape[1] - 1,
        ),
    }

    def __init__(
        self,
        *,
        epochs: int = 60,
        max_accuracy_drop: float = 0.04,
        finetune_epochs: int = 20,
        finetune_rate: float = 0.05,
        clean_share: float = 0.05,
        backbone: Backbone = "auto",
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
        cache_dir: str | os.PathLike[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            epochs=epochs,
            finetune_epochs=finetune_epochs,
            finetune_rate=finetune_rate,
            clean_share=clean_share,
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
            cache_dir=cache_dir,
            random_state=random_state,
        )
        self.max_accuracy_drop = max_accuracy_drop

    def _n_phases(self) -> int:
        return 2

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        clean_rows = self._clean_rows(run)
        network = self._train_backdoored(run)
        features = compute_features(network, run.samples)[clean_rows]
        pruned = choose_pruned(
            features, run.labels[clean_rows], network.head, self.max_accuracy_drop
        )
        with pruned_for_good(network.head, pruned):
            self._finetune(run, "finetune", network, clean_rows, CrossEntropy())
        self.pruned_ = pruned.cpu().numpy()
        return network, flag_nothing(len(run.samples))


@torch.no_grad()
def choose_pruned(
    features: torch.Tensor, labels: torch.Tensor, head: nn.Linear, max_accuracy_drop: float
) -> torch.Tensor:
    """Choose the channels to prune, from the least active on.

    The pruning of the paper's section 3: channels in the order of their mean activation on
    clean rows, until the accuracy on these rows falls too far. A feature may be negative
    here, so that its absolute value is averaged; for the paper's, which come from a ReLU,
    it is the same.

    Parameters
    ----------
    features : torch.Tensor of shape (n_rows, n_channels)
        Input of the head for the clean rows.
    labels : torch.Tensor of shape (n_rows,), int64
    head : torch.nn.Linear
    max_accuracy_drop : float
        How far the share of rows that get their label may fall.

    Returns
    -------
    torch.Tensor of shape (n_pruned,), int64
        Least active first. Never all: one channel is left.
    """
    logits = head(features)
    lowest = _accuracy(logits, labels) - max_accuracy_drop
    order = features.abs().mean(0).argsort(stable=True)
    n_pruned = 0
    for channel in order[:-1]:
        # What the channel says to each class, taken out of the logits.
        logits = logits - torch.outer(features[:, channel], head.weight[:, channel])
        if _accuracy(logits, labels) < lowest:
            break
        n_pruned += 1
    return order[:n_pruned]


@contextmanager
def pruned_for_good(head: nn.Linear, channels: torch.Tensor) -> Iterator[None]:
    """Prune channels that feed a head, and keep training inside the block from reviving them.

    A channel is pruned by weights of zero, which momentum and weight decay leave at zero as
    long as their gradient is zero too.

    Parameters
    ----------
    head : torch.nn.Linear
        Changed in place; nothing is left on it after the block but the zeros.
    channels : torch.Tensor of shape (n_pruned,), int64
    """
    with torch.no_grad():
        head.weight[:, channels] = 0
    hook = head.weight.register_hook(lambda gradient: gradient.index_fill(1, channels, 0))
    try:
        yield
    finally:
        hook.remove()


def _accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())
