"""What fit is in every classifier of this package, around the method's own phases."""

from __future__ import annotations

import copy
import functools
import os
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import nn

from antibackdoor.backbones import Backbone, Network, build_network
from antibackdoor.defenses._classifier import NetworkClassifier
from antibackdoor.defenses._clean_rows import check_clean_mask
from antibackdoor.defenses._identity import check_same_fit, digest_rows, identify_fit
from antibackdoor.defenses._rows import stays_in_place, validate_rows
from antibackdoor.defenses._run import Run
from antibackdoor.defenses.isolation import Isolation
from antibackdoor.training import (
    ADVICE,
    AUGMENTATIONS,
    SCHEDULES,
    Acceleration,
    Batches,
    Objective,
    Recipe,
    Samples,
    ShuffledRows,
    Training,
    alone,
    check_schedule,
    compute_logits,
    current_team,
    joined,
    open_checkpoints,
    resolve_augmentation,
    run_phase,
)
from antibackdoor.utils import (
    Fitted,
    ImageLayout,
    LazyRows,
    all_or_nothing,
    draw_seed,
    naming,
    resolve_device,
    resolve_layout,
    seeded_torch,
    usual_torch,
)

#: What a fitted network depends on still, and `set_params` must not change under it.
_NETWORK_PARAMETERS = ("backbone", "image_shape", "layout")

# Of a parameter: float32, of which most weights are, holds no larger one.
_LARGEST = float(np.finfo(np.float32).max)


class BaseDefense(CallbackSupportMixin, NetworkClassifier, metaclass=ABCMeta):
    """Base of the defences: validation, phases and callbacks.

    A defence writes `_train`, which makes networks with ``run.new_network()``,
    trains them with `_run_phase` and returns the one to keep and whom it suspects.
    """

    #: Whether the method looks for poisoned rows at all.
    flags_rows: ClassVar[bool] = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str, nn.Module, callable],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions(set(SCHEDULES)), "array-like"],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "augment": [StrOptions({"auto", *AUGMENTATIONS}), "array-like", None],
        "image_shape": ["array-like", None],
        "layout": [StrOptions({"auto", "channels_first", "channels_last"})],
        "device": [str, torch.device],
        "compile": [StrOptions({"auto"}), "boolean"],
        "checkpoint_dir": [str, os.PathLike, None],
        "random_state": ["random_state"],
    }

    #: What `fit` keeps beside the attributes of every classifier, for what comes out of a file.
    _fitted_constraints: ClassVar[dict[str, Fitted]] = {}

    history_: list[dict[str, Any]]
    isolate_: np.ndarray
    isolate_classes_: np.ndarray
    isolate_mask_: np.ndarray
    isolate_scores_: np.ndarray
    isolate_threshold_: float

    def __init__(
        self,
        *,
        backbone: Backbone,
        batch_size: int,
        learning_rate: float,
        lr_schedule: str | Sequence[int],
        momentum: float,
        weight_decay: float,
        augment: str | Sequence[str] | None,
        image_shape: Sequence[int] | None,
        layout: Literal["auto", "channels_first", "channels_last"],
        device: str | torch.device,
        checkpoint_dir: str | os.PathLike[str] | None,
        random_state: int | np.random.RandomState | None,
        # Not asked of each: a defence of a user's own need not know of it.
        compile: bool | Literal["auto"] = "auto",
    ) -> None:
        self.backbone = backbone
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.lr_schedule = lr_schedule
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.augment = augment
        self.image_shape = image_shape
        self.layout = layout
        self.device = device
        self.compile = compile
        self.checkpoint_dir = checkpoint_dir
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: Any) -> Self:
        """Train on data that may hold poison.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W), \
                (n_samples, H, W, C) or (n_samples, C, H, W)
            uint8 is taken for pixels and scaled to [0, 1]; floats are used as given.
            An array mapped from a file, and a `LazyRows`, are read in batches.
        y : array-like of shape (n_samples,)
            Class labels of any type, of two classes or more.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data cannot be used, or `checkpoint_dir` is of another fit
            or in use. Nothing has been trained then, and the estimator is as it was.
        FloatingPointError
            If the training diverges. The estimator is as it was, and the last checkpoint is
            of the epoch before.
        RuntimeError
            If another process of the fit has failed or ended. The estimator is as it was.
        """
        return self._fit(X, y)

    @usual_torch()
    def _fit(self, X: Any, y: Any, clean_mask: Any = None) -> Self:
        """Fit, with the rows known to be clean for the defences that ask for them.

        The public `fit` is what scikit-learn reads the metadata requests from, so each has
        the arguments of its own and no others.
        """
        with joined(resolve_device(self.device)):
            return self._fit_with_others(X, y, clean_mask)

    def _fit_with_others(self, X: Any, y: Any, clean_mask: Any) -> Self:
        """Fit, beside the other processes of the fit if there are any."""
        random_state = check_random_state(self.random_state)
        check_schedule(self.lr_schedule)
        self._check_sizes()
        X, y, samples, classes, labels = self._validate_training_data(X, y)
        if clean_mask is not None:
            clean_mask = check_clean_mask(clean_mask, y)
        augmentation = resolve_augmentation(self.augment, samples.layout)
        seeds = [draw_seed(random_state), draw_seed(random_state)]
        fitted = {
            "classes_": classes,
            "n_features_in_": self.n_features_in_,
            "input_shape_": X.shape[1:],
            "_fitted_with": {
                "uint8": X.dtype == np.uint8,
                **{name: getattr(self, name) for name in _NETWORK_PARAMETERS},
            },
        }
        with ExitStack() as stack:
            stack.callback(samples.close)
            rows_digest = functools.cache(lambda: digest_rows(X, samples.source))
            check_same_fit(self, X, rows_digest, labels, classes, clean_mask)
            checkpoints = None
            if self.checkpoint_dir is not None:
                checkpoints = stack.enter_context(open_checkpoints(self.checkpoint_dir))
                if self.random_state is None:
                    # Any seeds would do; only those of the checkpoint go on from it.
                    seeds = checkpoints.seeds or seeds
            seeds = current_team().from_first(lambda: seeds)
            stack.enter_context(seeded_torch(seeds[0], samples.device))
            mean, scale = samples.channel_statistics()

            def new_network() -> Network:
                network = self._build_network(samples, len(classes), mean.cpu(), scale.cpu())
                return network.to(samples.device)

            first = new_network()  # a backbone that does not fit the data ends here, untrained
            if checkpoints is not None:
                identity = identify_fit(
                    self, rows_digest, labels, classes, clean_mask, seeds, first, samples
                )
                checkpoints.begin(identity)
            run = Run(
                X=X,
                y=y,
                samples=samples,
                labels=labels,
                classes=classes,
                context=self._init_callback_context(max_subtasks=self._n_phases()),
                generator=torch.Generator(samples.device).manual_seed(seeds[1]),
                new_network=new_network,
                rows_digest=rows_digest,
                acceleration=Acceleration(self.compile, samples.device),
                augmentation=augmentation,
                fitted=fitted,
                clean_mask=clean_mask,
                checkpoints=checkpoints,
            )
            # The mask is no metadata of theirs: callbacks hand metadata on to scorers.
            with alone():
                run.context.call_on_fit_task_begin(estimator=self, X=X, y=y)
            network, isolation = self._train(run)
            # What is worked out on each process may differ in a last digit where machines do.
            current_team().copy_first(network.state_dict().values())
            isolation = current_team().from_first(lambda: isolation)
            _check_predictions(network, samples)
        self._keep(run, network, isolation)
        with alone():
            run.context.call_on_fit_task_end(
                estimator=self, X=X, y=y, reconstruction_attributes={**fitted, "module_": network}
            )
        return self

    @abstractmethod
    def _train(self, run: Run) -> tuple[Network, Isolation]:
        """Return the clean network and whom it suspects."""

    @abstractmethod
    def _n_phases(self) -> int:
        """Return how often `_train` calls `_run_phase`, at most."""

    def _check_sizes(self) -> None:
        """Refuse numbers that the range of a parameter lets pass, but no weight can be moved by."""
        for name, value in self.get_params(deep=False).items():
            if isinstance(value, float | int) and abs(value) > _LARGEST:
                raise ValueError(f"{name}={value!r}; wanted a number of at most {_LARGEST:.2g}.")

    def _validate_training_data(
        self, X: Any, y: Any
    ) -> tuple[np.ndarray | LazyRows, np.ndarray, Samples, np.ndarray, torch.Tensor]:
        device = resolve_device(self.device)
        with naming("y"):
            y = validate_data(self, y=y)
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

    def _build_network(
        self, samples: Samples, n_classes: int, mean: torch.Tensor, scale: torch.Tensor
    ) -> Network:
        return build_network(
            self.backbone,
            samples.input_shape,
            n_classes,
            mean=mean,
            scale=scale,
            dtype=samples.dtype,
        )

    def _recipe(self, run: Run, **changes: Any) -> Recipe:
        settings = {
            "learning_rate": self.learning_rate,
            "schedule": self.lr_schedule,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "augmentation": run.augmentation,
        }
        return Recipe(**{**settings, **changes})

    def _run_phase(
        self,
        run: Run,
        name: str,
        network: Network,
        *,
        epochs: int,
        objective: Objective,
        recipe: Recipe,
        batches: Batches | None = None,
        parameters: Iterable[nn.Parameter] | None = None,
        stop: Callable[[], bool] | None = None,
        keep_losses: bool = False,
    ) -> list[torch.Tensor]:
        """Train a network for a phase, telling the callbacks and `history_` of each epoch.

        Parameters
        ----------
        run : Run
        name : str
            Of the phase.
        network : Network
            Trained in place.
        epochs : int
            At most.
        objective : Objective
        recipe : Recipe
        batches : Batches, default=None
            None: all rows, shuffled.
        parameters : iterable of torch.nn.Parameter, default=None
            What is moved; None: the parameters of the network.
        stop : callable, default=None
            Asked after each epoch whether to end the phase; see `run_phase`.
        keep_losses : bool, default=False

        Returns
        -------
        list of torch.Tensor of shape (n_samples,)
            The losses of each epoch, if they are to be kept.
        """
        if batches is None:
            batches = ShuffledRows(run.every_row, self.batch_size)

        def as_fitted() -> dict[str, Any]:
            return {**run.fitted, "module_": copy.deepcopy(network).eval()}

        training = Training(
            network,
            run.samples,
            run.labels,
            batches=batches,
            epochs=epochs,
            objective=objective,
            recipe=recipe,
            generator=run.generator,
            parameters=parameters,
            acceleration=run.acceleration,
        )
        return run_phase(
            name,
            training,
            epochs=epochs,
            context=run.context,
            told={"estimator": self, "X": run.X, "y": run.y},
            history=run.history,
            as_fitted=as_fitted,
            stop=stop,
            keep_losses=keep_losses,
            checkpoints=run.checkpoints,
        )

    def _keep(self, run: Run, network: Network, isolation: Isolation) -> None:
        self.module_ = network.eval()
        self.classes_ = run.fitted["classes_"]
        self.input_shape_ = run.fitted["input_shape_"]
        self._fitted_with = run.fitted["_fitted_with"]
        self.history_ = run.history
        self.isolate_scores_ = isolation.scores
        self.isolate_threshold_ = isolation.threshold
        self.isolate_mask_ = isolation.mask
        self.isolate_ = isolation.indices
        flagged_labels = run.labels.cpu().numpy()[isolation.mask]
        self.isolate_classes_ = self.classes_[np.unique(flagged_labels)]


def _check_predictions(network: Network, samples: Samples) -> None:
    """See that what was trained predicts: of huge weights, each finite, the logits are not."""
    if (
        not compute_logits(network, samples, torch.arange(1, device=samples.device))
        .isfinite()
        .all()
    ):
        raise FloatingPointError(f"the trained network predicts what is not finite; {ADVICE}")


def _network_dtype(X: np.ndarray | LazyRows, layout: ImageLayout | None) -> torch.dtype:
    """Tables keep their width; images, whose cost is in the arithmetic, take float32."""
    return torch.float64 if layout is None and X.dtype == np.float64 else torch.float32
