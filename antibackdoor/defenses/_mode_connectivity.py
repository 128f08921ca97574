"""Mode connectivity repair: a curve from a backdoored network to a fine-tuned one."""

from __future__ import annotations

import copy
from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from antibackdoor.backbones import Network
from antibackdoor.defenses._cleansing import CleansingDefense
from antibackdoor.detection import Isolation, flag_nothing
from antibackdoor.training import CrossEntropy, Run, Samples, ShuffledRows
from antibackdoor.utils import parameters

# Batch size for measuring batch-norm statistics.
_STATISTICS_BATCH = 512


@parameters
class ModeConnectivityClassifier(CleansingDefense):
    """Mode connectivity repair: keeps a network between a backdoored one and its fine-tuned copy.

    Call `fit` with all the data there is and a mask of rows known to be clean::

        clf = ModeConnectivityClassifier().fit(X, y, clean_mask=checked_by_hand)
        clf.predict(X_test)  # by a network on the curve

    There are three steps:

    1. Train a network on all rows.
    2. Fine-tune a copy on the clean rows.
    3. Train a curve in weight space between the two, on the clean rows. Along the curve the clean
       accuracy stays high. The backdoor fades with the distance from the backdoored end.

    The network at `position` on the curve is kept.

    This is how the paper repairs one given network. The paper also connects two backdoored
    networks, which costs a second training on all rows. On digits, with 5 % of the rows clean,
    that was no better on the whole. Against Blend its clean accuracy was a point lower.

    Parameters
    ----------
    epochs
    position : float, default=0.8
        Position of the network on the curve, between 0, the backdoored end, and 1, the fine-tuned
        end. Near 0 more of the clean accuracy remains, and more of the backdoor.
    finetune_epochs : int, default=40
        Epochs on the clean rows, for the fine-tuned end and for the curve.
    finetune_rate : float, default=0.05
        Highest learning rate of the fine-tuned end and of the curve, under the same schedule. Too
        low a rate leaves the backdoor in.
    clean_share, backbone, batch_size, optimizer, learning_rate, lr_schedule
    momentum, weight_decay, augment, image_shape, layout, device, compile, cache_dir
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, the order of the samples, the augmentation, the points on the curve
        and the draw of `clean_share`.

    Attributes
    ----------
    classes_
    module_ : torch.nn.Module
        The network at `position` on the curve. It takes float inputs, images as
        (n, C, H, W), and gives logits.
    clean_mask_, isolate_, isolate_classes_, isolate_mask_, isolate_scores_, isolate_threshold_,
    history_, n_features_in_, input_shape_

    See Also
    --------
    FinePruningClassifier : Needs clean rows too, and prunes.
    NADClassifier : Needs clean rows too, and distils.
    ABLClassifier : Needs no clean rows.

    Notes
    -----
    While the curve is trained, callbacks get its control point. The curve bends towards this
    point but does not pass through it, so that its accuracy is far below that of the network that
    is kept.

    References
    ----------
    Zhao, Chen, Das, Ramamurthy & Lin, Bridging Mode Connectivity in Loss Landscapes and
    Adversarial Robustness, ICLR 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor import ModeConnectivityClassifier, make_poisoned
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> X_bad, y_bad, poison_mask = make_poisoned(X[:300], y[:300], random_state=0)
    >>> checked_by_hand = ~poison_mask & (np.arange(300) < 150)
    >>> clf = ModeConnectivityClassifier(epochs=2, finetune_epochs=2, random_state=0)
    >>> clf = clf.fit(X_bad, y_bad, clean_mask=checked_by_hand)
    >>> [row["phase"] for row in clf.history_[-4:]]
    ['finetune', 'finetune', 'connect', 'connect']
    """

    position: float = 0.8
    finetune_epochs: int = 40

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "position": [Interval(Real, 0, 1, closed="both")],
    }

    def _n_phases(self) -> int:
        return 3

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        clean_rows = self._clean_rows(run)
        start = self._train_backdoored(run)
        end = copy.deepcopy(start)
        self._finetune(run, "finetune", end, clean_rows, CrossEntropy())
        curve = BezierCurve(start, end, run.generator)
        control = curve.straight()
        self._finetune(run, "connect", control, clean_rows, curve)
        network = curve.network_at(self.position, control)
        measure_batch_norm(network, run.samples, clean_rows, run.generator)
        return network, flag_nothing(len(run.samples))


class BezierCurve:
    """A curve between two networks, and its training objective: E_t[ L(phi_theta(t)) ].

    phi is `bezier`. t is uniform on [0, 1] and drawn once a step. The network that is trained
    holds theta, the control point; the ends do not change.

    Parameters
    ----------
    start, end : Network
        w_1 and w_2, of the same architecture. Never changed.
    generator : torch.Generator
        Draws t; on the device of the networks.
    """

    #: It runs the network with other weights, given by name.
    takes_network_apart = True

    def __init__(self, start: Network, end: Network, generator: torch.Generator) -> None:
        self._start = start
        self._w1 = _weights(start)
        self._w2 = _weights(end)
        self._generator = generator

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value to minimise and the logits; see `Objective`."""
        t = torch.rand((), generator=self._generator, device=self._generator.device)
        logits = functional_call(network, self._weights_at(t, network), (inputs,))
        return F.cross_entropy(logits, labels), logits

    def straight(self) -> Network:
        """Return the control point midway between the ends, which makes the curve a line."""
        middle = {name: (self._w1[name] + self._w2[name]) / 2 for name in self._w1}
        return _with_weights(self._start, middle)

    def network_at(self, t: float, control: Network) -> Network:
        """Return phi_theta(t) as a network of its own.

        Its batch-norm statistics are those of the control point and do not fit it; call
        `measure_batch_norm` afterwards.
        """
        return _with_weights(control, self._weights_at(t, control))

    def _weights_at(self, t: float | torch.Tensor, control: Network) -> dict[str, torch.Tensor]:
        return {
            name: bezier(t, self._w1[name], theta, self._w2[name])
            for name, theta in control.named_parameters()
        }


def bezier(
    t: float | torch.Tensor, w1: torch.Tensor, theta: torch.Tensor, w2: torch.Tensor
) -> torch.Tensor:
    """Return a point of the paper's quadratic Bezier curve.

    phi_theta(t) = (1 - t)^2 w_1 + 2 t (1 - t) theta + t^2 w_2.

    Parameters
    ----------
    t : float or scalar torch.Tensor
        Between 0, which gives w_1, and 1, which gives w_2.
    w1, theta, w2 : torch.Tensor
        Tensors of one shape.

    Returns
    -------
    torch.Tensor
        A tensor of the same shape.
    """
    return (1 - t) ** 2 * w1 + 2 * t * (1 - t) * theta + t**2 * w2


@torch.no_grad()
def measure_batch_norm(
    network: Network, samples: Samples, rows: torch.Tensor, generator: torch.Generator
) -> None:
    """Recompute, in place, the statistics that batch norm uses for prediction.

    Parameters
    ----------
    network : Network
        Afterwards in evaluation mode.
    rows : torch.Tensor of shape (n_rows,), int64
        Rows to use. All batches have the same weight, a smaller last one too.
    generator : torch.Generator
        Shuffles the rows.
    """
    # Other layers work as in prediction: dropout would change the statistics.
    network.eval()
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
        layer.train()
    batches = list(ShuffledRows(rows, _STATISTICS_BATCH).epoch(generator))
    for stored in samples.stored_batches(batches):
        network(samples.to_inputs(stored))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()


def _weights(network: Network) -> dict[str, torch.Tensor]:
    return {name: weights.detach() for name, weights in network.named_parameters()}


@torch.no_grad()
def _with_weights(network: Network, weights: dict[str, torch.Tensor]) -> Network:
    copied = copy.deepcopy(network)
    for name, parameter in copied.named_parameters():
        parameter.copy_(weights[name])
    return copied
