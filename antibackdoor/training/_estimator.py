"""Base of the estimators that train on data that may hold poison."""

from __future__ import annotations

import functools
import os
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils import Tags, check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import nn

from antibackdoor.backbones import Backbone, Network
from antibackdoor.training._acceleration import Acceleration
from antibackdoor.training._augment import AUGMENTATIONS, resolve_augmentation
from antibackdoor.training._batches import resolve_batch_size
from antibackdoor.training._digest import digest_of
from antibackdoor.training._identity import (
    check_same_fit,
    digest_rows,
    identify_fit,
    identify_parameters,
)
from antibackdoor.training._loop import Recipe
from antibackdoor.training._parallel import alone, current_team, joined
from antibackdoor.training._rows import stays_in_place, validate_rows
from antibackdoor.training._run import Run
from antibackdoor.training._samples import Samples
from antibackdoor.training._schedules import SCHEDULES, check_schedule
from antibackdoor.training._store import PhaseStore
from antibackdoor.training._work import Passes, Work, count_epochs_named, count_passes
from antibackdoor.utils import (
    CheckedParameters,
    ImageLayout,
    LazyRows,
    as_labels,
    draw_seed,
    naming,
    parameters,
    resolve_device,
    resolve_layout,
    seeded_torch,
)
from antibackdoor.utils._atomic import all_or_nothing
from antibackdoor.utils._sklearn import CallbackSupportMixin
from antibackdoor.utils._torch import usual_torch

#: Parameters that a fitted network depends on, and that `set_params` must not change under it.
NETWORK_PARAMETERS = ("backbone", "image_shape", "layout")

# Largest value of a parameter: that of float32, the type of most weights.
_LARGEST = float(np.finfo(np.float32).max)


@parameters
class TrainingEstimator(CallbackSupportMixin, CheckedParameters, metaclass=ABCMeta):
    """Base of the detectors and the classifiers: validation, randomness, and the `Run`.

    An estimator implements `_train`. It creates networks with ``run.new_network()``, trains them
    with ``run.phase(...)``, and returns a result that `_keep` turns into fitted attributes.

    Parameters
    ----------
    backbone : str, torch.nn.Module or callable, default="auto"
        Network to train. Names: ``"mlp"``, ``"small-cnn"``, ``"wrn-16-1"`` or any
        ``"wrn-D-K"``, ``"preact-resnet18"``, any classifier of `torchvision.models`, and
        ``"auto"``, which chooses by the shape of `X`. A module is copied, and the copy is
        trained further. A callable takes the shape of a sample, channels first, and the number
        of classes, and returns a module. The last layer of a module must be the
        `torch.nn.Linear` that gives the logits.
    batch_size : int or "auto", default=128
        Samples per training step. ``"auto"``: a 160th of the rows, from 32 to 128.
    learning_rate : float, default=0.1
        Highest rate of the schedule of stochastic gradient descent.
    lr_schedule : {"onecycle", "cosine", "constant"} or array-like of int, \
            default="onecycle"
        How the rate changes over the epochs of each phase. Integers are the epochs from
        which it is divided by ten once more.
    momentum : float, default=0.9
        Nesterov momentum.
    weight_decay : float, default=5e-4
        Factor of the squared norm of the weights (L2 penalty).
    augment : "auto", None or array-like of {"crop", "flip", "cutout"}, default="auto"
        Random changes of the images during training. ``"auto"``: ``"crop"`` for images of 16
        pixels and more, ``"flip"`` for colour images.
    image_shape : tuple of int, default=None
        Shape of the image in each row of a 2-D `X`: (H, W), (H, W, C) or (C, H, W).
        None: a 2-D `X` is a table.
    layout : {"auto", "channels_first", "channels_last"}, default="auto"
        Position of the channel axis of images. ``"auto"`` infers it from the shape, and raises
        a ValueError where the shape is ambiguous.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA if available, else the CPU.
    compile : {"auto", True, False}, default="auto"
        Whether to train through `torch.compile`. ``"auto"``: on CUDA only. If compiling fails,
        the fit warns once (RuntimeWarning) and continues without it.
    cache_dir : str or path, default=None
        Folder in which every phase of the training is saved, epoch by epoch. It is created if
        missing. A fit that was killed resumes from it. Fits that begin alike, such as those of a
        grid search, train their common phases once. The result is the same as without it, and
        fits may run in parallel. Requires the extra ``[persist]``.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, the order of the samples and the augmentation.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_classes,)
        Labels, sorted.
    history_ : list of dict
        One entry an epoch: phase, epoch, objective (value minimised), loss (mean
        cross-entropy, nats), accuracy (on the training labels), learning_rate, seconds.
    n_features_in_ : int
        ``X.shape[1]``.
    input_shape_ : tuple of int
        Shape of one row of `X`.

    Examples
    --------
    >>> from antibackdoor import ABLClassifier, PoisonSearch
    >>> from antibackdoor.training import TrainingEstimator
    >>> [
    ...     isinstance(estimator, TrainingEstimator)
    ...     for estimator in (ABLClassifier(), PoisonSearch())
    ... ]
    [True, True]
    """

    backbone: Backbone = "auto"
    batch_size: int | Literal["auto"] = 128
    learning_rate: float = 0.1
    lr_schedule: str | Sequence[int] = "onecycle"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: str | Sequence[str] | None = "auto"
    image_shape: Sequence[int] | None = None
    layout: Literal["auto", "channels_first", "channels_last"] = "auto"
    device: str | torch.device = "auto"
    compile: bool | Literal["auto"] = "auto"
    cache_dir: str | os.PathLike[str] | None = None
    random_state: int | np.random.RandomState | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str, nn.Module, callable],
        "batch_size": [Interval(Integral, 2, None, closed="left"), StrOptions({"auto"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions(set(SCHEDULES)), "array-like"],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "augment": [StrOptions({"auto", *AUGMENTATIONS}), "array-like", None],
        "image_shape": ["array-like", None],
        "layout": [StrOptions({"auto", "channels_first", "channels_last"})],
        "device": [str, torch.device],
        "compile": [StrOptions({"auto"}), "boolean"],
        "cache_dir": [str, os.PathLike, None],
        "random_state": ["random_state"],
    }

    def __new__(cls, *arguments: Any, **parameters: Any) -> Self:
        if "verbose" in parameters and "verbose" not in cls._get_param_names():
            raise TypeError(
                f"{cls.__name__} has no verbose; to see its progress, give it a callback: "
                "set_callbacks(antibackdoor.FitProgress())."
            )
        return super().__new__(cls)

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: Any) -> Self:
        """Train on data that may hold poison.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W), \
                (n_samples, H, W, C) or (n_samples, C, H, W)
            Training rows. uint8 values are pixels and are scaled to [0, 1]; floats are used as
            given. A memory-mapped array or a `LazyRows` is read batch by batch.
        y : array-like of shape (n_samples,)
            Class labels of any type, of two classes or more.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data is not valid. Nothing is trained then, and the estimator
            is unchanged.
        FloatingPointError
            If the training diverges. The estimator is unchanged.
        RuntimeError
            If another process of the fit failed or ended. The estimator is unchanged.
        """
        return self._fit(X, y)

    @usual_torch()
    def _fit(self, X: Any, y: Any, **given: Any) -> Self:
        """Fit, with masks of rows for estimators that take them.

        scikit-learn reads the metadata requests from the signature of the public `fit`, so that
        each class has a `fit` with its own arguments.
        """
        device = resolve_device(self.device)
        with joined(device), ExitStack() as stack:
            self._check_before_training()
            random_state = check_random_state(self.random_state)
            X, y, samples, classes, labels = self._validate_training_data(X, y, device)
            stack.callback(samples.close)
            masks = self._check_given(given, y)
            recipe = self._recipe(samples.layout)
            rows_digest = functools.cache(lambda: digest_rows(X, samples.source))
            check_same_fit(self, X, rows_digest, labels, classes, masks)
            store = None if self.cache_dir is None else PhaseStore(self.cache_dir)
            seeds = [draw_seed(random_state), draw_seed(random_state)]
            if store is not None and self.random_state is None:
                identity = {
                    "fit": digest_of([rows_digest(), labels, masks, identify_parameters(self)])
                }
                seeds = stack.enter_context(store.seeds(identity, seeds))
            seeds = current_team().from_first(lambda: seeds)
            stack.enter_context(seeded_torch(seeds[0], samples.device))
            new_network = self._network_maker(samples, len(classes))
            first = new_network()  # raises here, before training, if it does not fit the data
            run = Run(
                estimator=self,
                X=X,
                y=y,
                samples=samples,
                labels=labels,
                classes=classes,
                context=self._init_callback_context(max_subtasks=self._n_phases()),
                generator=torch.Generator(samples.device).manual_seed(seeds[1]),
                new_network=new_network,
                recipe=recipe,
                batch_size=resolve_batch_size(self.batch_size, len(samples)),
                acceleration=Acceleration(self.compile, samples.device),
                fitted=self._fitted_beforehand(X, classes),
                given=masks,
                store=store,
                identity=functools.cache(
                    lambda: identify_fit(rows_digest, labels, masks, first, samples)
                ),
                work=Work(
                    count_passes(
                        self._passes(
                            len(y), images=samples.layout is not None, reviewed="suspects" in masks
                        )
                    )
                ),
            )
            # The masks are not passed as metadata, since callbacks pass metadata to scorers.
            with alone():
                run.context.call_on_fit_task_begin(estimator=self, X=X, y=y)
            run.report(run.context)
            self._keep(run, self._train(run))
        with alone():
            run.context.call_on_fit_task_end(
                estimator=self, X=X, y=y, reconstruction_attributes=self._reconstruction(run)
            )
        return self

    @abstractmethod
    def _train(self, run: Run) -> Any:
        """Train, and return the result for `_keep`."""

    @abstractmethod
    def _keep(self, run: Run, kept: Any) -> None:
        """Set the fitted attributes."""

    @abstractmethod
    def _n_phases(self) -> int:
        """Return the largest number of times that `_train` trains a network."""

    def _passes(self, n_rows: int, *, images: bool = True, reviewed: bool = False) -> list[Passes]:
        """Return about which passes over all rows `_train` makes, in their order.

        Parameters
        ----------
        n_rows : int
            Number of training rows.
        images : bool, default=True
            Whether the rows are images, not those of a table.
        reviewed : bool, default=False
            Whether `fit` is given a list of suspects, in place of a detector.
        """
        return [self._own_passes(count_epochs_named(self.get_params()), n_rows)]

    def _own_passes(self, number: float, n_rows: int) -> Passes:
        """Return passes in steps of its own `batch_size`."""
        return Passes(
            number,
            of=self,
            batch_size=resolve_batch_size(self.batch_size, n_rows),
            # That of a detector is no parameter.
            optimizer=getattr(self, "optimizer", "sgd"),
        )

    def _check_given(self, given: Mapping[str, Any], y: np.ndarray) -> dict[str, np.ndarray]:
        """Return the checked masks given to `fit`, without those that are None."""
        assert not given
        return {}

    def _fitted_beforehand(
        self, X: np.ndarray | LazyRows, classes: np.ndarray
    ) -> dict[str, Any] | None:
        """Return the attributes that do not depend on training; None if they are no use alone."""
        return None

    def _reconstruction(self, run: Run) -> dict[str, Any] | None:
        """Return the attributes with which a copy of the estimator predicts, for callbacks."""
        return None

    def _check_before_training(self) -> None:
        """Refuse combinations of parameters that are not valid."""
        for name, value in self.get_params().items():
            # No weight can be moved by more.
            if isinstance(value, float | int) and abs(value) > _LARGEST:
                raise ValueError(f"{name}={value!r}; wanted a number of at most {_LARGEST:.2g}.")

    def _validate_training_data(
        self, X: Any, y: Any, device: torch.device
    ) -> tuple[np.ndarray | LazyRows, np.ndarray, Samples, np.ndarray, torch.Tensor]:
        with naming("y"):
            y = validate_data(self, y=y if y is None else as_labels("y", y, any_shape=True))
            check_classification_targets(y)
        X = validate_rows(self, X, reset=True)
        with naming("X and y"):
            check_consistent_length(X, y)
        layout = resolve_layout(X.shape[1:], self.image_shape, self.layout)
        classes, encoded = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"y holds one class, {classes[0]!r}; wanted two classes or more to tell apart."
            )
        dtype = _network_dtype(X, layout)
        samples = Samples(X, layout, device, dtype, resident=not stays_in_place(X))
        return X, y, samples, classes, torch.as_tensor(encoded, device=device)

    def _network_maker(self, samples: Samples, n_classes: int) -> Callable[[], Network]:
        """Return a function that builds untrained networks of its backbone for these rows."""
        return functools.partial(samples.new_network, self.backbone, n_classes)

    def _recipe(self, layout: ImageLayout | None) -> Recipe:
        """Return the default recipe of its phases."""
        check_schedule(self.lr_schedule)
        return Recipe(
            learning_rate=self.learning_rate,
            schedule=self.lr_schedule,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            augmentation=resolve_augmentation(self.augment, layout),
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        return tags


def _network_dtype(X: np.ndarray | LazyRows, layout: ImageLayout | None) -> torch.dtype:
    """Return the dtype of the network: that of X for tables, float32 for images, for speed."""
    return torch.float64 if layout is None and X.dtype == np.float64 else torch.float32
