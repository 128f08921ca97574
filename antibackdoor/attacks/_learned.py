"""Base of the attacks that train a network of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import field
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import Interval
from torch import nn

from antibackdoor.attacks._base import BaseAttack
from antibackdoor.attacks._label_maps import check_labels, encode
from antibackdoor.attacks._study import Study
from antibackdoor.backbones import Backbone, Network
from antibackdoor.backbones._state import from_arrays, network_from_arrays, to_arrays
from antibackdoor.training import (
    CrossEntropy,
    Recipe,
    Samples,
    Work,
    count_epochs_named,
)
from antibackdoor.utils import HISTORY, Fitted, draw_seed, parameters, resolve_device, seeded_torch
from antibackdoor.utils._atomic import all_or_nothing
from antibackdoor.utils._sklearn import CallbackSupportMixin
from antibackdoor.utils._torch import usual_torch

_BATCH_SIZE = 128

#: Batch size for predictions of the attack's networks.
_CHUNK = 256


@parameters
class LearnedAttack(CallbackSupportMixin, BaseAttack):
    """Base of the attacks that train networks on the clean rows given to `fit`.

    They need images and labels::

        attack = Trojan(target_label=3).fit(X, y)
        attack.history_  # its training
        attack.transform(X_test)  # rows with the learned trigger

    A new attack lists parameters of its own (`antibackdoor.utils.parameters`), and implements
    `_learn`. It trains with `_train_surrogate` or ``study.phase`` and sets fitted attributes. List
    those that hold modules in `_modules`, so that a pickle holds arrays instead. Implement
    `_build_module` for modules that are not surrogates.

    Inputs of its networks are floats (n, C, H, W): uint8 pixels divided by 255, any other `X`
    with `value_range_` scaled to [0, 1].

    Parameters
    ----------
    surrogate : str, torch.nn.Module or callable, default="auto"
        Surrogate of the victim's network: a backbone, as for the classifiers.
    surrogate_epochs : int, default=10
        Epochs of the surrogate on the clean rows.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA if available, else the CPU.
    random_state : int, RandomState instance or None, default=0
        Seed of all that `fit` trains or draws. A seed, and not None, by default: the
        trigger at test time has to be the trigger of training.
    target_label, label_map, value_range, image_shape, layout

    Attributes
    ----------
    history_ : list of dict
        One entry an epoch: phase, epoch, objective (value minimised), loss (mean cross-entropy,
        nats), accuracy, learning_rate, seconds.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    Examples
    --------
    >>> from antibackdoor.attacks import Trojan
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> attack = Trojan(steps=5, surrogate_epochs=2).fit(X[:200], y[:200])
    >>> [row["epoch"] for row in attack.history_]
    [0, 1]
    """

    surrogate: Backbone = "auto"
    surrogate_epochs: int = 10
    device: str | torch.device = "auto"
    random_state: int | np.random.RandomState | None = 0

    needs_images: ClassVar[bool] = True
    trigger_is_learned: ClassVar[bool] = True
    #: Attributes that hold a trained module.
    _modules: ClassVar[tuple[str, ...]] = ()

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "surrogate": [str, nn.Module, callable],
        "surrogate_epochs": [Interval(Integral, 1, None, closed="left")],
        "device": [str, torch.device],
        "random_state": ["random_state"],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "history_": HISTORY,
    }

    history_: list[dict[str, Any]] = field(init=False)

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    @with_callbacks
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on clean rows, as an attacker with data like the victim's does.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, H, W, C), (n, C, H, W) or, with \
                `image_shape`, (n, n_features)
            Clean images.
        y : array-like of shape (n,)
            Their labels.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X is not an array of images, `target_label` is not a class of y, or a parameter is
            out of range. This is checked before training, and the attack is unchanged.
        TypeError
            If X is sparse or holds text.
        """
        rows = self._learn_rows(X, y)
        labels = check_labels(y)
        if len(np.unique(labels)) < 2:
            raise ValueError(f"y holds one class, {labels[0]!r}; wanted two classes or more.")
        wanted = self.transform_target(labels)
        self._check_before_training(rows, labels)
        device = resolve_device(self.device)
        random_state = check_random_state(self.random_state)
        seed = draw_seed(random_state)
        generator = torch.Generator(device).manual_seed(draw_seed(random_state))
        with usual_torch(), seeded_torch(seed, device):
            samples = self._to_samples(rows, device)
            study = Study(
                estimator=self,
                X=rows,
                y=labels,
                samples=samples,
                labels=torch.as_tensor(encode(labels, self.classes_), device=device),
                wanted=torch.as_tensor(encode(wanted, self.classes_), device=device),
                classes=self.classes_,
                eligible=torch.as_tensor(np.flatnonzero(self.eligible(labels)), device=device),
                context=self._init_callback_context(max_subtasks=None),
                generator=generator,
                new_network=partial(self._new_surrogate, samples),
                recipe=Recipe(learning_rate=0.1, schedule="onecycle"),
                batch_size=_BATCH_SIZE,
                work=Work(count_epochs_named(self.get_params())),
            )
            study.new_network()  # raises here, before training, if it does not fit the data
            study.context.call_on_fit_task_begin(estimator=self, X=rows, y=labels)
            study.report(study.context)
            self._learn(study)
        self._fitted_surrogate = self.surrogate
        self.history_ = study.history
        study.context.call_on_fit_task_end(estimator=self, X=rows, y=labels)
        return self

    def _check_before_training(self, X: np.ndarray, y: np.ndarray) -> None:
        """Refuse data and parameters that `_learn` cannot use."""

    @abstractmethod
    def _learn(self, study: Study) -> None:
        """Train, and set the fitted attributes."""

    def _new_surrogate(self, samples: Samples, n_outputs: int | None = None) -> Network:
        """Return an untrained surrogate with one output a class, or with `n_outputs`."""
        return samples.new_network(self.surrogate, n_outputs or len(self.classes_))

    def _train_surrogate(self, study: Study) -> Network:
        """Train a surrogate on the clean rows for `surrogate_epochs`."""
        network = study.new_network()
        study.phase("surrogate", network, CrossEntropy(), epochs=self.surrogate_epochs)
        return network.eval()

    def _build_module(self, name: str) -> nn.Module:
        """Build the module of an attribute, with any weights; not called for surrogates."""
        raise NotImplementedError(name)

    def __sklearn_tags__(self) -> Tags:
        """Declare that labels are needed."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        for name in self._modules:
            if name in state:
                state[name] = to_arrays(state[name])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for name in self._modules:
            if name in state:
                setattr(self, name, self._module_from_arrays(name, state[name]))

    def _module_from_arrays(self, name: str, arrays: dict[str, np.ndarray]) -> nn.Module:
        if "head.weight" in arrays:  # a Network
            return network_from_arrays(
                arrays, self._fitted_surrogate, self.layout_.chw, len(arrays["head.weight"])
            )
        return from_arrays(arrays, lambda: self._build_module(name))

    # --- between rows and inputs of a network

    def _input_range(self) -> tuple[float, float]:
        """Darkest and brightest value in the units of a network's inputs."""
        if self._fit_dtype == "uint8":
            return self.value_range_[0] / 255, self.value_range_[1] / 255
        return 0.0, 1.0

    def _in_input_units(self, amount: float) -> float:
        """Convert 255ths of the value range to the units of a network's inputs."""
        low, high = self._input_range()
        return amount / 255 * (high - low)

    def _to_inputs(self, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        """Return rows of any dtype as inputs of a network: floats (n, C, H, W)."""
        samples = self._to_samples(rows, device)
        inputs = samples.to_inputs(samples.stored(torch.arange(len(rows), device=device)))
        # `Samples` scales only uint8; the same pixels in another dtype must be scaled too.
        is_scaled = self._fit_dtype != "uint8" or rows.dtype == np.uint8
        return inputs if is_scaled else inputs / 255

    def _to_samples(self, rows: np.ndarray, device: torch.device) -> Samples:
        if self._fit_dtype != "uint8":
            low, high = self.value_range_
            # In float64, so that the same values in any dtype give the same inputs.
            scaled = (rows.astype(np.float64) - low) / ((high - low) or 1.0)
            rows = scaled.astype(np.float32)
        return Samples(rows, self.layout_, device, torch.float32)

    def _from_inputs(self, inputs: torch.Tensor, dtype: np.dtype) -> np.ndarray:
        """Undo `_to_inputs`: clipped, and in the dtype of the rows."""
        values = self._pixels(inputs)
        if dtype.kind != "f":
            values = np.rint(values)
        return self.layout_.from_nchw(values.astype(dtype))

    def _pixels(self, inputs: torch.Tensor) -> np.ndarray:
        """Return inputs in the units of X, clipped: float64 of the same shape."""
        values = inputs.detach().double().cpu().numpy()
        low, high = self.value_range_
        values = values * 255 if self._fit_dtype == "uint8" else low + values * (high - low)
        return np.clip(values, low, high)

    @torch.no_grad()
    def _change_inputs(
        self,
        rows: np.ndarray,
        module: nn.Module,
        change: Callable[[torch.Tensor, slice], torch.Tensor],
    ) -> None:
        """Replace `rows`, a chunk at a time, by ``change(inputs, which rows)``.

        The inputs are on the device of the module that `change` uses, and are clipped to the
        value range. Whatever rows have beyond the range is added again afterwards.
        """
        device = next(module.parameters()).device
        for start in range(0, len(rows), _CHUNK):
            chosen = slice(start, min(start + _CHUNK, len(rows)))
            inside = np.clip(rows[chosen], *self.value_range_).astype(rows.dtype)
            changed = self._from_inputs(change(self._to_inputs(inside, device), chosen), rows.dtype)
            outside = rows[chosen] != inside
            changed[outside] += rows[chosen][outside] - inside[outside]
            rows[chosen] = changed
