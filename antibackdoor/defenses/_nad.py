"""Neural Attention Distillation: a fine-tuned teacher shows where to look."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from torch import nn
from torch.nn import functional as F

from antibackdoor.backbones import Backbone, Network
from antibackdoor.defenses._cleansing import CleansingDefense
from antibackdoor.detection import Isolation, flag_nothing
from antibackdoor.training import CrossEntropy, Run


class NADClassifier(CleansingDefense):
    """Neural Attention Distillation: trains a backdoored network to look where a teacher looks.

    The network is trained on all rows. A copy is fine-tuned on rows known to be clean: the
    teacher. Then the network itself is fine-tuned on them, with its attention in every stage
    drawn to the teacher's.

    Attention is the sum over channels of the squared activations, taken at the last maps of each
    resolution, whatever the backbone. A network without maps, such as an MLP on a table, is
    compared by its features.

    Parameters
    ----------
    epochs : int, default=60
        Passes over all rows.
    beta : float, default=5.0
        Factor of the distances, one for each stage, each between 0 and the square root of 2. The
        authors' code has 5000 times the mean square over the 64 positions of the last stage of
        WRN-16-1 and nothing for the others: 78 times the square of this distance. A factor on
        the distance itself, as in the paper's equation, does not fade as the two come together,
        so less will do; on digits 10 cost a point of accuracy.
    finetune_epochs : int, default=20
        Epochs on the clean rows, for the teacher and for the student.
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
    FinePruningClassifier : Is given clean rows too, and prunes instead of distilling.
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
    >>> X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="badnets", random_state=0)
    >>> checked_by_hand = ~poison_mask & (np.arange(len(y)) < 150)
    >>> clf = NADClassifier(epochs=5, finetune_epochs=2, random_state=0)
    >>> clf = clf.fit(X_bad, y_bad, clean_mask=checked_by_hand)
    >>> [row["phase"] for row in clf.history_[-4:]]
    ['teach', 'teach', 'distil', 'distil']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CleansingDefense._parameter_constraints,
        "beta": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        epochs: int = 60,
        beta: float = 5.0,
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
        self.beta = beta

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
    """What the student minimises: L_CE + beta * sum over stages of L_NAD.

    L_NAD is `attention_distance`. Of a network without maps, such as an MLP, the features
    are the one stage.

    Parameters
    ----------
    teacher : Network
        Put into evaluation mode and never changed.
    beta : float
        Factor of the distances.
    """

    #: It looks at maps inside the body.
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
    """Return where a stage looks, A_sum^2 of NAD: the squared activations summed over channels.

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
        A_S and A_T. One of nothing but zeros looks nowhere and stays zero.

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
    """Run a network up to its head and return where its stages look, and the features.

    A stage is a resolution: the paper compares what residual groups give out, and each
    works at a resolution of its own.

    Parameters
    ----------
    network : Network
    inputs : torch.Tensor of shape (n, ...)

    Returns
    -------
    attention_by_stage : dict of tuple of int to torch.Tensor of shape (n, n_positions)
        By height and width of the stage; the features, of shape (n_features,), where the
        network has no maps.
    features : torch.Tensor of shape (n, n_features)
    """
    with last_maps(network.body) as maps:
        features = network.features(inputs)
    if not maps:
        return {tuple(features.shape[1:]): features}, features
    return {size: network.gathered(attention(last)) for size, last in maps.items()}, features


@contextmanager
def last_maps(body: nn.Module) -> Iterator[dict[tuple[int, ...], torch.Tensor]]:
    """Collect the last activation maps of each resolution that a body gives inside the block.

    Resolutions are those at which it convolves: other outputs of four axes, such as the
    channels-last ones inside a transformer, are no (n, C, H, W). A single pixel is left out,
    since attention to it is always one.

    The hooks live as long as the block, so that no copy of the network carries any.

    Parameters
    ----------
    body : torch.nn.Module

    Yields
    ------
    dict of tuple of int to torch.Tensor of shape (n, C, H, W)
        By (H, W). Filled when the block has run the body.
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
