"""Neural Attention Distillation: a fine-tuned teacher's attention repairs a network."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import nn
from torch.nn import functional as F

from antibackdoor.backbones import Network
from antibackdoor.defenses._cleansing import CleansingDefense
from antibackdoor.detection import Isolation, flag_nothing
from antibackdoor.training import CrossEntropy, Run
from antibackdoor.utils import parameters


@parameters
class NADClassifier(CleansingDefense):
    """Neural Attention Distillation: repairs a backdoored network by a fine-tuned teacher.

    Call `fit` with all the data there is and a mask of rows known to be clean::

        clf = NADClassifier().fit(X, y, clean_mask=checked_by_hand)
        clf.predict(X_test)  # by the distilled network

    There are three steps:

    1. Train a network on all rows.
    2. Fine-tune a copy on the clean rows: the teacher.
    3. Fine-tune the network on the clean rows, and pull its attention maps towards the teacher's.

    An attention map is the sum over channels of the squared activations. It is taken from the
    last activation maps of each resolution, for any backbone. A network without activation maps,
    such as an MLP on a table, is compared by its features.

    Parameters
    ----------
    epochs
    beta : float, default=5.0
        Factor of the attention distances. There is one distance a stage, each between 0 and the
        square root of 2. On digits, 10 cost a point of accuracy.

        The authors' code uses the last stage of WRN-16-1 only, with 5000 times the mean square
        over its 64 positions: 78 times the square of this distance. Here, as in the paper's
        equation, the distance is not squared. Its gradient does not fade as the two come
        together, so that a smaller factor suffices.
    finetune_epochs : int, default=20
        Epochs on the clean rows, for the teacher and for the student.
    finetune_rate, clean_share, backbone, batch_size, optimizer, learning_rate, lr_schedule
    momentum, weight_decay, augment, image_shape, layout, device, compile, cache_dir, random_state

    Attributes
    ----------
    classes_, module_
    clean_mask_, isolate_, isolate_classes_, isolate_mask_, isolate_scores_, isolate_threshold_,
    history_, n_features_in_, input_shape_

    See Also
    --------
    FinePruningClassifier : Needs clean rows too, and prunes instead of distilling.
    ABLClassifier : Needs no clean rows.

    References
    ----------
    Li, Lyu, Koren, Lyu, Li & Ma, Neural Attention Distillation: Erasing Backdoor Triggers
    from Deep Neural Networks, ICLR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor import NADClassifier, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X[:300], y[:300], random_state=0)
    >>> checked_by_hand = ~poison_mask & (np.arange(300) < 150)
    >>> clf = NADClassifier(epochs=2, finetune_epochs=2, random_state=0)
    >>> clf = clf.fit(X_bad, y_bad, clean_mask=checked_by_hand)
    >>> [row["phase"] for row in clf.history_[-4:]]
    ['teach', 'teach', 'distil', 'distil']
    """

    beta: float = 5.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "beta": [Interval(Real, 0, None, closed="left")],
    }

    def _n_phases(self) -> int:
        return 3

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        clean_rows = self._clean_rows(run)
        student = self._train_backdoored(run)
        teacher = copy.deepcopy(student)
        self._finetune(run, "teach", teacher, clean_rows, CrossEntropy())
        distillation = AttentionDistillation(teacher, self.beta)
        self._finetune(run, "distil", student, clean_rows, distillation)
        return student, flag_nothing(len(run.samples))


class AttentionDistillation:
    """Objective of the student: L_CE + beta * sum over stages of L_NAD.

    L_NAD is `attention_distance`. A network without activation maps, such as an MLP, has one
    stage: its features.

    Parameters
    ----------
    teacher : Network
        Put into evaluation mode and never changed.
    beta : float
        Factor of the distances.
    """

    #: It hooks modules inside the body.
    takes_network_apart = True

    def __init__(self, teacher: Network, beta: float) -> None:
        self._teacher = teacher.eval()
        self._beta = beta

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value to minimise and the logits; see `Objective`."""
        with torch.no_grad():
            wanted, _ = attentions(self._teacher, inputs)
        seen, features = attentions(network, inputs)
        logits = network.head(features)
        distance = sum(attention_distance(seen[stage], wanted[stage]) for stage in seen)
        return F.cross_entropy(logits, labels) + self._beta * distance, logits


def attention(maps: torch.Tensor) -> torch.Tensor:
    """Return the attention map A_sum^2 of NAD: squared activations summed over channels.

    Parameters
    ----------
    maps : torch.Tensor of shape (n, C, H, W)

    Returns
    -------
    torch.Tensor of shape (n, H * W)
    """
    return maps.square().sum(1).flatten(1)


def attention_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return L_NAD of one stage: || A_T / ||A_T||_2 - A_S / ||A_S||_2 ||_2, mean over the rows.

    Parameters
    ----------
    student, teacher : torch.Tensor of shape (n, n_positions)
        A_S and A_T. A map of zeros stays zero.

    Returns
    -------
    torch.Tensor
        A scalar: 0 for the same direction, the square root of 2 for disjoint attention.
    """
    difference = F.normalize(teacher, dim=1) - F.normalize(student, dim=1)
    return torch.linalg.vector_norm(difference, dim=1).mean()


def attentions(
    network: Network, inputs: torch.Tensor
) -> tuple[dict[tuple[int, ...], torch.Tensor], torch.Tensor]:
    """Run a network up to its head; return the attention map of each stage, and the features.

    A stage is a resolution. The paper compares the outputs of residual groups, each of which
    has a resolution of its own.

    Parameters
    ----------
    inputs : torch.Tensor of shape (n, ...)

    Returns
    -------
    attention_by_stage : dict of tuple of int to torch.Tensor of shape (n, n_positions)
        Keys are height and width of the stage. If the network has no activation maps, there is
        one entry for the features, with the key (n_features,).
    features : torch.Tensor of shape (n, n_features)
    """
    with last_maps(network.body) as maps:
        features = network.features(inputs)
    if not maps:
        return {tuple(features.shape[1:]): features}, features
    return {size: network.gathered(attention(last)) for size, last in maps.items()}, features


@contextmanager
def last_maps(body: nn.Module) -> Iterator[dict[tuple[int, ...], torch.Tensor]]:
    """Collect the last activation maps of each resolution while the block runs a body.

    Only outputs of convolutions set the resolutions: other outputs of four axes, such as the
    channels-last ones inside a transformer, are not (n, C, H, W). Maps of a single pixel are left
    out, since their attention is always one.

    The hooks are removed at the end of the block, so that no copy of the network has any.

    Yields
    ------
    dict of tuple of int to torch.Tensor of shape (n, C, H, W)
        Keys are (H, W). It is filled when the body runs.
    """
    latest: dict[tuple[int, ...], torch.Tensor] = {}

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        if not isinstance(output, torch.Tensor) or output.ndim != 4:
            return
        size = tuple(output.shape[2:])
        if isinstance(module, nn.Conv2d) or size in latest:
            latest[size] = output

    hooks = [module.register_forward_hook(note) for module in body.modules()]
    try:
        yield latest
    finally:
        for hook in hooks:
            hook.remove()
        latest.pop((1, 1), None)
