"""The run of one call of fit, and its phases of training."""

from __future__ import annotations

import copy
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackContext
from torch import nn

from antibackdoor.backbones import Network
from antibackdoor.training._acceleration import Acceleration
from antibackdoor.training._batches import Batches, ShuffledRows
from antibackdoor.training._digest import digest_of
from antibackdoor.training._loop import EpochRecord, Recipe, Training
from antibackdoor.training._objectives import Objective
from antibackdoor.training._parallel import alone, current_team
from antibackdoor.training._samples import Samples
from antibackdoor.training._store import PhaseStore, StoredPhase
from antibackdoor.training._work import PhaseWork, Work, WorkCallback
from antibackdoor.utils import LazyRows
from antibackdoor.utils._random import random_states


@dataclass(kw_only=True)
class Run:
    """One call of `fit`: its data, randomness, training settings and history.

    `phase` trains a network; `rows` converts a mask to row indices; `new_network` builds an
    untrained network.

    Attributes
    ----------
    estimator : BaseEstimator
        The estimator of the fit, for the callbacks.
    X : numpy.ndarray of shape (n_samples, ...) or LazyRows
    y : numpy.ndarray of shape (n_samples,)
    samples : Samples
        The rows of X, as inputs of a network.
    labels : torch.Tensor of shape (n_samples,), int64
        Positions of y in `classes`.
    classes : numpy.ndarray of shape (n_classes,)
        Labels, sorted.
    context : CallbackContext
        Context of the whole fit.
    generator : torch.Generator
        Draws order and augmentation; on the device of the rows.
    new_network : callable
        Returns an untrained network.
    recipe : Recipe
        Default recipe of the phases.
    batch_size : int
        Default samples per step of the phases.
    acceleration : Acceleration or None
        None: networks are not compiled.
    fitted : dict or None
        Attributes of the fitted estimator that do not depend on training; None if the estimator
        cannot predict before the end of the fit.
    given : dict of str to numpy.ndarray of shape (n_samples,), bool
        Checked masks of rows that were given to `fit`.
    store : PhaseStore or None
        Storage of phases.
    identity : callable
        Returns everything that the result of a phase depends on; called only with a store.
    history : list of dict
        One entry for every epoch so far.
    work : Work
        What is done and what is left.

    Examples
    --------
    A defence gets its run in `_train`:

    >>> from antibackdoor import UndefendedClassifier
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.detection import flag_nothing
    >>> from antibackdoor.training import CrossEntropy
    >>> class TwoPhases(UndefendedClassifier):
    ...     def _n_phases(self):
    ...         return 2
    ...
    ...     def _train(self, run):
    ...         network = run.new_network()
    ...         run.phase("first", network, CrossEntropy(), epochs=1)
    ...         run.phase("second", network, CrossEntropy(), epochs=1)
    ...         return network, flag_nothing(len(run.samples))
    >>> X, y = load_digits_images()
    >>> clf = TwoPhases(random_state=0).fit(X[:200], y[:200])
    >>> [row["phase"] for row in clf.history_]
    ['first', 'second']
    """

    estimator: BaseEstimator
    X: np.ndarray | LazyRows
    y: np.ndarray
    samples: Samples
    labels: torch.Tensor
    classes: np.ndarray
    context: CallbackContext
    generator: torch.Generator
    new_network: Callable[..., Network]
    recipe: Recipe
    batch_size: int
    acceleration: Acceleration | None = None
    fitted: dict[str, Any] | None = None
    given: dict[str, np.ndarray] = field(default_factory=dict)
    store: PhaseStore | None = None
    identity: Callable[[], dict[str, Any]] = dict
    history: list[dict[str, Any]] = field(default_factory=list)
    work: Work = field(default_factory=Work)

    @property
    def device(self) -> torch.device:
        """Device of the data."""
        return self.samples.device

    @property
    def has_images(self) -> bool:
        """Whether the rows are images, not those of a table."""
        return self.samples.layout is not None

    @property
    def every_row(self) -> torch.Tensor:
        """Indices of all training rows."""
        return torch.arange(len(self.samples), device=self.device)

    def rows(self, mask: np.ndarray) -> torch.Tensor:
        """Return the indices of the training rows where a mask is set."""
        return torch.as_tensor(np.flatnonzero(mask), device=self.device)

    def draw_seed(self) -> int:
        """Draw a seed, for a library that takes one, from the generator of the fit."""
        highest = np.iinfo(np.int32).max
        drawn = torch.randint(highest, (1,), generator=self.generator, device=self.device)
        return int(drawn)

    def phase(
        self,
        name: str,
        network: Network,
        objective: Objective,
        *,
        epochs: int,
        recipe: Recipe | None = None,
        batches: Batches | None = None,
        labels: torch.Tensor | None = None,
        parameters: Iterable[nn.Parameter] | None = None,
        stop: Callable[[], bool] | None = None,
        keep_losses: bool = False,
    ) -> list[torch.Tensor]:
        """Train a network; each epoch is a task of the callbacks and an entry of the history.

        Parameters
        ----------
        name : str
            Name of the phase.
        network : Network
            Trained in place.
        objective : Objective
        epochs : int
            Largest number of epochs.
        recipe : Recipe, default=None
            None: that of the run.
        batches : Batches, default=None
            None: all rows, shuffled, with the batch size of the run.
        labels : torch.Tensor of shape (n_samples,), int64, default=None
            None: those of the run.
        parameters : iterable of torch.nn.Parameter, default=None
            What is moved; None: the parameters of the network.
        stop : callable, default=None
            Called after each epoch; a true result ends the phase. It may remember only the
            epoch before: when a stored phase is resumed, it is called for that epoch again.
        keep_losses : bool, default=False
            Whether to return the losses of all epochs.

        Returns
        -------
        list of torch.Tensor of shape (n_samples,)
            The recorded losses of each epoch, with `keep_losses`.

        Raises
        ------
        FloatingPointError
            If the training diverges.
        """
        moved = None if parameters is None else list(parameters)
        recipe = self.recipe if recipe is None else recipe
        labels = self.labels if labels is None else labels
        if batches is None:
            batches = ShuffledRows(self.every_row, self.batch_size)
        phase = self.context.subcontext(name, max_subtasks=epochs)
        work = self._work_of(phase, epochs, batches)
        training = Training(
            network,
            self.samples,
            labels,
            batches=batches,
            epochs=epochs,
            objective=objective,
            recipe=recipe,
            generator=self.generator,
            parameters=moved,
            acceleration=self.acceleration,
            told=work.step if work.is_watched else None,
        )
        depends_on = {
            "objective": objective,
            "epochs": epochs,
            "recipe": recipe,
            "labels": labels,
            "batches": batches,
            "weights": network,
            "moved": moved,
            "stop": stop,
            "keep_losses": keep_losses,
        }
        told = {**self._told(), "reconstruction_attributes": self._as_fitted(network)}
        with alone():  # callbacks may differ from process to process
            phase.call_on_fit_task_begin(**told)
        with ExitStack() as stack:
            stored = stack.enter_context(self._stored(name, depends_on))
            progress = stored.resume(training)
            stack.enter_context(work.begun(len(progress.history)))
            if progress.history and not progress.finished and stop is not None:
                stop()
            while not progress.finished and len(progress.history) < epochs:
                task = phase.subcontext("epoch")
                with alone():
                    task.call_on_fit_task_begin(**told)
                started = time.perf_counter()
                epoch = len(progress.history)
                try:
                    record = training.run_epoch()
                except FloatingPointError as error:
                    raise FloatingPointError(f"phase {name!r}, epoch {epoch}: {error}") from None
                seconds = time.perf_counter() - started
                work.end_epoch()
                if keep_losses:
                    progress.losses.append(record.losses)
                with alone():
                    asked = task.call_on_fit_task_end(**told)
                asked, seconds = _settle(name, epoch, record, asked, seconds)
                progress.history.append(_row(name, epoch, record, seconds))
                progress.finished = asked or (stop is not None and stop()) or epoch + 1 == epochs
                stored.save(progress, training)
        self.history += progress.history
        with alone():
            phase.call_on_fit_task_end(**told)
        return progress.losses

    def report(self, context: CallbackContext) -> None:
        """Tell the callbacks that want to know it how much is done and how much is left."""
        with alone():
            for callback in self._watchers:
                callback.on_fit_work(
                    self.estimator, context, done=self.work.done, left=self.work.left
                )

    @property
    def _watchers(self) -> list[WorkCallback]:
        callbacks = getattr(self.estimator, "_skl_callbacks", ())
        return [callback for callback in callbacks if isinstance(callback, WorkCallback)]

    def _work_of(self, phase: CallbackContext, epochs: int, batches: Batches) -> PhaseWork:
        n_rows = len(self.samples)
        return PhaseWork(
            self.work,
            epochs=epochs,
            passes=(getattr(batches, "n_rows", 0) or n_rows) / n_rows,
            report=partial(self.report, phase) if self._watchers else None,
        )

    def _told(self) -> dict[str, Any]:
        return {"estimator": self.estimator, "X": self.X, "y": self.y}

    def _as_fitted(self, network: Network) -> Callable[[], dict[str, Any]] | None:
        """Return a function that gives the attributes of the estimator as fitted so far."""
        fitted = self.fitted
        if fitted is None:
            return None

        def as_fitted() -> dict[str, Any]:
            module = copy.deepcopy(network).eval()
            # The search may train a network on more classes than the data has.
            module.resize_head(len(self.classes))
            return {**fitted, "module_": module}

        return as_fitted

    @contextmanager
    def _stored(self, name: str, depends_on: dict[str, Any]) -> Iterator[StoredPhase]:
        """Yield the stored phase; without a store, one that saves nothing."""
        if self.store is None:
            yield StoredPhase()
            return
        identity = {
            **self.identity(),
            **{part: digest_of(value) for part, value in depends_on.items()},
            "generators": digest_of(random_states(self.generator)),
            "compile": self.acceleration is not None and self.acceleration.compiles,
        }
        with self.store.open(name, identity) as stored:
            yield stored


def _settle(
    name: str, epoch: int, record: EpochRecord, asked: bool, seconds: float
) -> tuple[bool, float]:
    """Return whether a callback of any process asked to stop, and the seconds of the first.

    Raises
    ------
    RuntimeError
        If the processes are no longer at the same place of the same fit.
    """
    team = current_team()
    if team.size == 1:
        return asked, seconds
    seen = zlib.crc32(record.losses.isnan().cpu().numpy().tobytes())
    answers = team.exchange(((name, epoch, seen), asked, seconds))
    if any(place != answers[0][0] for place, _, _ in answers):
        raise RuntimeError(
            f"the processes of this fit have come apart in phase {name!r}, epoch {epoch}: they "
            f"have trained on different rows. All must have the same packages and hardware."
        )
    return any(asked for _, asked, _ in answers), answers[0][2]


def _row(name: str, epoch: int, record: EpochRecord, seconds: float) -> dict[str, Any]:
    return {
        "phase": name,
        "epoch": epoch,
        "objective": record.objective,
        "loss": float(record.losses.nanmean()),
        "accuracy": record.accuracy,
        "learning_rate": record.learning_rate,
        "seconds": seconds,
    }
