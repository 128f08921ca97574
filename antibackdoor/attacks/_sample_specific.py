"""SampleSpecific: a faint residual hides one message, differently in every image."""

from __future__ import annotations

import math
from dataclasses import field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from torch import nn
from torch.nn import functional as F

from antibackdoor.attacks._generator import ImageToImage, Partner
from antibackdoor.attacks._learned import LearnedAttack
from antibackdoor.attacks._study import Study
from antibackdoor.backbones import Network
from antibackdoor.utils import Fitted, FittedNumber, parameters

#: Number of rows for measuring the share of recovered messages.
_N_MEASURED = 512

_TINY = 1e-8


@parameters
class SampleSpecific(LearnedAttack):
    """A faint residual that an encoder makes for each image (Li et al., 2021).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="ssba")

    An encoder E takes an image and one of `n_messages` messages k, and adds a residual:

        x' = clip(x + eps * tanh(E(x, k))),    eps in 255ths of the range.

    A surrogate D, with one output a message, reads the hidden message. Both minimise

        CE(D(x'), k) + strength * mean(tanh(E)^2) + sameness * read * common(tanh(E)).

    ``common`` is the share of the squared residuals that is the same for all images with the
    same message: that of their mean over a batch. ``read`` is how well messages are read,
    max(0, 1 - CE / log(n_messages)). It is not differentiated, and starts at zero: an encoder
    that is penalised for common patterns from the start never finds a pattern.

    The trigger is one message, the same for all images. Each image encodes it in other pixels.

    Three things differ from the paper. It hides a string of bits; here messages are numbered. It
    judges visibility by a pretrained perceptual network; here the change of every pixel is
    bounded. It trains long on large images; here the images given to `fit` are all there is. On
    small images an encoder tends to one pattern a message, so that the third term is needed to
    make the residuals differ.

    Parameters
    ----------
    eps : float, default=16
        Largest change of a pixel in 255ths of the range, above 0 and at most 255.
    n_messages : int, default=4
        Number of messages that the encoder can hide, two or more.
    strength : float, default=0.05
        Weight of the mean square of the residual; 0 for none.
    sameness : float, default=0.5
        Weight of the common share of the residuals; 0 for none.
    surrogate : str, torch.nn.Module or callable, default="auto"
        The network that reads the message: a backbone, as for the classifiers.
    surrogate_epochs : int, default=10
        Epochs of surrogate and encoder together.
    device, random_state, target_label, label_map, value_range, image_shape, layout

    Attributes
    ----------
    encoder_ : torch.nn.Module
        The encoder E.
    message_ : int
        The message that is the trigger.
    recovered_ : float
        Share of the messages that the surrogate reads, measured on some of the rows.
    history_ : list of dict
        One entry an epoch; accuracy and loss are of reading the messages.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    Y. Li, Y. Li, B. Wu, L. Li, R. He, S. Lyu. Invisible Backdoor Attack with
    Sample-Specific Triggers. ICCV 2021. arXiv:2012.03816.

    Examples
    --------
    >>> from antibackdoor.attacks import SampleSpecific
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> attack = SampleSpecific(surrogate_epochs=1).fit(X[:200], y[:200])
    >>> attack.transform(X[:5]).shape
    (5, 8, 8)
    """

    eps: float = 16
    n_messages: int = 4
    strength: float = 0.05
    sameness: float = 0.5

    _modules: ClassVar[tuple[str, ...]] = ("encoder_",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "eps": [Interval(Real, 0, 255, closed="right")],
        "n_messages": [Interval(Integral, 2, None, closed="left")],
        "strength": [Interval(Real, 0, None, closed="left")],
        "sameness": [Interval(Real, 0, None, closed="left")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "message_": FittedNumber(kind=int, low=0, high=lambda attack: attack.n_messages - 1),
        "recovered_": FittedNumber(kind=float, low=0, high=1),
    }

    encoder_: nn.Module = field(init=False)
    message_: int = field(init=False)
    recovered_: float = field(init=False)

    def _learn(self, study: Study) -> None:
        self.encoder_ = self._build_module("encoder_").to(study.device)
        decoder = study.new_network(n_outputs=self.n_messages)
        study.phase(
            "messages",
            decoder,
            _HidingObjective(self, study),
            epochs=self.surrogate_epochs,
            labels=torch.zeros_like(study.labels),
        )
        self.encoder_.eval()
        self.message_ = int(self._draw_messages(1, study))
        rows = study.draw_rows(torch.arange(len(study.samples), device=study.device), _N_MEASURED)
        messages = self._draw_messages(len(rows), study)
        with torch.no_grad():
            read = decoder.eval()(self._hide(study.inputs(rows), messages)[0]).argmax(1)
        self.recovered_ = float((read == messages).double().mean())

    def _draw_messages(self, n_rows: int, study: Study) -> torch.Tensor:
        return torch.randint(
            self.n_messages, (n_rows,), generator=study.generator, device=study.device
        )

    def _build_module(self, name: str) -> nn.Module:
        channels = self.layout_.channels
        return ImageToImage(channels + self.n_messages, channels)

    def _stamp(self, rows: np.ndarray) -> None:
        device = next(self.encoder_.parameters()).device

        def hide(inputs: torch.Tensor, _which: slice) -> torch.Tensor:
            messages = torch.full((len(inputs),), self.message_, device=device)
            return self._hide(inputs, messages)[0]

        self._change_inputs(rows, self.encoder_, hide)

    def _hide(
        self, inputs: torch.Tensor, messages: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs with a message hidden in each, and the residuals, -1 to 1."""
        low, high = self._input_range()
        planes = F.one_hot(messages, self.n_messages)[:, :, None, None].to(inputs.dtype)
        planes = planes.expand(-1, -1, *inputs.shape[2:])
        # Centred, so that both values of a plane have the scale of the image's own values.
        seen = torch.cat([(inputs - low) / ((high - low) or 1.0) - 0.5, planes - 0.5], dim=1)
        residuals = torch.tanh(self.encoder_(seen))
        return (inputs + self._in_input_units(self.eps) * residuals).clamp(low, high), residuals


class _HidingObjective:
    """Objective: the surrogate reads the message that the encoder hides in a row.

    Messages are drawn anew in each step; otherwise the surrogate would memorise the message of
    each row. The labels of the training loop are fixed. So the returned logits are permuted
    until the message of a row is at its label.
    """

    def __init__(self, attack: SampleSpecific, study: Study) -> None:
        self._attack = attack
        self._study = study
        self._partner = Partner(attack.encoder_)

    def __call__(
        self, network: Network, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        messages = self._attack._draw_messages(len(inputs), self._study)
        hidden, residuals = self._attack._hide(inputs, messages)
        shown = self._partner.shown(hidden)
        logits = network(shown)
        loss = F.cross_entropy(logits, messages)
        penalty = self._attack.strength * residuals.square().mean()
        if self._attack.sameness:
            read = (1 - loss.detach() / math.log(logits.shape[1])).clamp(min=0)
            common = common_share(residuals, messages)
            penalty = penalty + self._attack.sameness * read * common
        self._partner.move(hidden, shown, loss, penalty)
        columns = torch.arange(logits.shape[1], device=logits.device)
        turned = (columns + (messages - labels).unsqueeze(1)) % logits.shape[1]
        return loss, logits.gather(1, turned)


def common_share(residuals: torch.Tensor, messages: torch.Tensor) -> torch.Tensor:
    """Return the share of the squared residuals that is in their mean for each message.

    Parameters
    ----------
    residuals : torch.Tensor of shape (n, C, H, W)
    messages : torch.Tensor of shape (n,), int64

    Returns
    -------
    torch.Tensor
        A scalar: 1 if all residuals of a message are the same; about the number of messages over
        n if they are independent.
    """
    told = F.one_hot(messages).to(residuals.dtype)
    flat = residuals.flatten(1)
    means = told.T @ flat / told.sum(0).clamp(min=1).unsqueeze(1)
    return (told @ means).square().sum() / (flat.square().sum() + _TINY)
