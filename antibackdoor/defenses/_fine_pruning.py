"""Fine-pruning: prune channels that clean rows do not activate, then fine-tune on these rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from torch import nn

from antibackdoor.backbones import Network
from antibackdoor.defenses._cleansing import CleansingDefense
from antibackdoor.detection import Isolation, flag_nothing
from antibackdoor.training import CrossEntropy, Run, compute_features
from antibackdoor.utils import Fitted, FittedArray, parameters


@parameters
class FinePruningClassifier(CleansingDefense):
    """Fine-pruning: prunes channels that clean rows do not activate, then fine-tunes on them.

    Call `fit` with all the data there is and a mask of rows known to be clean::

        clf = FinePruningClassifier().fit(X, y, clean_mask=checked_by_hand)
        clf.predict(X_test)  # by the pruned and fine-tuned network

    A backdoor sits, in part, in channels that only the trigger activates. There are three steps:

    1. Train a network on all rows.
    2. Rank the channels that feed its head by their mean absolute activation over the clean
       rows. Prune the least active ones, as long as the accuracy on the clean rows holds.
    3. Fine-tune on the clean rows; pruned channels stay pruned.

    Parameters
    ----------
    epochs
    max_accuracy_drop : float, default=0.04
        Largest loss of accuracy on the clean rows by pruning, as a share between 0 and 1.
    finetune_epochs : int, default=20
        Epochs of fine-tuning on the clean rows.
    finetune_rate, clean_share, backbone, batch_size, optimizer, learning_rate, lr_schedule
    momentum, weight_decay, augment, image_shape, layout, device, compile, cache_dir, random_state

    Attributes
    ----------
    classes_, module_
    clean_mask_
    pruned_ : numpy.ndarray of shape (n_pruned,), int64
        Pruned channels, whose weights in the head are zero; least active first.
    isolate_, isolate_classes_, isolate_mask_, isolate_scores_, isolate_threshold_, history_,
    n_features_in_, input_shape_

    See Also
    --------
    NADClassifier : Needs clean rows too, and distils instead of pruning.
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
    >>> X_bad, y_bad, poison_mask = make_poisoned(X[:300], y[:300], random_state=0)
    >>> checked_by_hand = ~poison_mask & (np.arange(300) < 150)
    >>> clf = FinePruningClassifier(epochs=2, finetune_epochs=2, random_state=0)
    >>> clf = clf.fit(X_bad, y_bad, clean_mask=checked_by_hand)
    >>> bool(clf.module_.head.weight[:, clf.pruned_].any())
    False
    """

    max_accuracy_drop: float = 0.04

    pruned_: np.ndarray = field(init=False)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "max_accuracy_drop": [Interval(Real, 0, 1, closed="both")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "pruned_": FittedArray(
            dtype="int64",
            shape=lambda clf: (range(clf.module_weights["head.weight"].shape[1]),),
            low=0,
            high=lambda clf: clf.module_weights["head.weight"].shape[1] - 1,
        ),
    }

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

    Section 3 of the paper: channels are pruned in the order of their mean activation on clean
    rows, until the accuracy on these rows falls too far. Features may be negative here, so the
    absolute value is averaged. The paper's features come from a ReLU, where it is the same.

    Parameters
    ----------
    features : torch.Tensor of shape (n_rows, n_channels)
        Input of the head for the clean rows.
    labels : torch.Tensor of shape (n_rows,), int64
    max_accuracy_drop : float
        Largest loss of accuracy, as a share between 0 and 1.

    Returns
    -------
    torch.Tensor of shape (n_pruned,), int64
        Least active first. At least one channel is left.
    """
    logits = head(features)
    lowest = _accuracy(logits, labels) - max_accuracy_drop
    order = features.abs().mean(0).argsort(stable=True)
    n_pruned = 0
    for channel in order[:-1]:
        # Take the channel's contribution out of the logits.
        logits = logits - torch.outer(features[:, channel], head.weight[:, channel])
        if _accuracy(logits, labels) < lowest:
            break
        n_pruned += 1
    return order[:n_pruned]


@contextmanager
def pruned_for_good(head: nn.Linear, channels: torch.Tensor) -> Iterator[None]:
    """Prune channels that feed a head, and keep them pruned while the block trains.

    A pruned channel has weights of zero. Its gradient is set to zero too, so that momentum and
    weight decay leave the weights at zero.

    Parameters
    ----------
    head : torch.nn.Linear
        Changed in place. After the block only the zero weights remain.
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
