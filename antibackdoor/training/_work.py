"""How much of a fit is done and how much is left, in passes over all rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, Protocol, runtime_checkable

# Seconds between two reports within a phase: a bar needs no more, and a step takes milliseconds.
_BETWEEN_REPORTS = 0.25


@runtime_checkable
class WorkCallback(Protocol):
    """Protocol of callbacks that are told how much of a fit is done, also within an epoch.

    scikit-learn's callbacks know tasks, which are the phases and the epochs of a fit. Steps are no
    tasks: a callback such as `ScoringMonitor` would predict after each of them. A callback that has
    this method beside scikit-learn's is told at the beginning of the fit and of each phase, and
    then a few times a second.

    Examples
    --------
    >>> from antibackdoor import FitProgress
    >>> from antibackdoor.training import WorkCallback
    >>> isinstance(FitProgress(), WorkCallback)
    True
    """

    def on_fit_work(self, estimator: Any, context: Any, *, done: float, left: float) -> None:
        """Take note of the passes over all rows that are done, and of those expected to follow.

        Parameters
        ----------
        estimator : object
            The estimator that is fitted.
        context : sklearn.callback.CallbackContext
            Of the phase; at the beginning, of the fit.
        done, left : float
            Passes over all rows: an epoch on half of them counts as a half. Epochs taken from the
            store of a `cache_dir` do not count.
        """


def count_epochs_named(parameters: Mapping[str, Any]) -> int:
    """Return the sum of the parameters that count epochs, those of parts included.

    Examples
    --------
    >>> from antibackdoor.training import count_epochs_named
    >>> count_epochs_named({"epochs": 60, "detector__epochs": 20, "batch_size": 128})
    80
    """
    return sum(
        int(value)
        for name, value in parameters.items()
        if name.endswith("epochs") and isinstance(value, Integral)
    )


@dataclass(frozen=True)
class Passes:
    """Passes over all rows that a part of a fit is expected to make.

    Attributes
    ----------
    number : float
        How many; an epoch on half of the rows is half a pass.
    of : TrainingEstimator
        Whose network and recipe they are of.
    batch_size : int
        Samples per training step.
    optimizer : {"sgd", "muon"}, default="sgd"
        What it steps by.

    Examples
    --------
    >>> from antibackdoor import UndefendedClassifier
    >>> from antibackdoor.training import Passes
    >>> Passes(20, of=UndefendedClassifier(), batch_size=64).number
    20
    """

    number: float
    of: Any
    batch_size: int
    optimizer: Literal["muon", "sgd"] = "sgd"


def count_passes(parts: Iterable[Passes]) -> float:
    """Return how many passes these are together.

    Examples
    --------
    >>> from antibackdoor import UndefendedClassifier
    >>> from antibackdoor.training import Passes, count_passes
    >>> clf = UndefendedClassifier()
    >>> count_passes([Passes(number, of=clf, batch_size=32) for number in (3, 4)])
    7
    """
    return sum(part.number for part in parts)


class Work:
    """The work of a fit, in passes over all rows.

    A part of the work, such as a detector or a phase, is expected to take some passes. It may take
    fewer, and it may take more. What comes after it is not touched by that.

    Parameters
    ----------
    expected : float, default=0
        Passes of the whole fit.

    Attributes
    ----------
    done, left : float
        Passes that were made, and that are expected to follow.

    Examples
    --------
    >>> from antibackdoor.training import Work
    >>> work = Work(10)
    >>> with work.part(6):
    ...     work.move(made=1, left=5)
    >>> work.done, work.left
    (1.0, 4.0)
    """

    def __init__(self, expected: float = 0) -> None:
        self.done = 0.0
        self.left = float(expected)
        # What comes after the part that is under way.
        self._after = 0.0

    @contextmanager
    def part(self, passes: float) -> Iterator[None]:
        """Begin a part that is expected to take some passes; at the end none of them is left."""
        outer, self._after = self._after, max(self.left - passes, self._after)
        try:
            yield
        finally:
            self.left, self._after = self._after, outer

    def move(self, made: float, left: float) -> None:
        """Count passes as made, and expect `left` of them in this part."""
        self.done += made
        self.left = self._after + left


class PhaseWork:
    """The work of one phase.

    Parameters
    ----------
    work : Work
        Of the fit.
    epochs : int
        Largest number of epochs.
    passes : float
        Passes over all rows that an epoch counts for.
    report : callable or None
        Called without arguments a few times a second.
    """

    def __init__(
        self, work: Work, *, epochs: int, passes: float, report: Callable[[], None] | None
    ) -> None:
        self._work = work
        self._epochs = epochs
        self._passes = passes
        self._report = report
        self._epoch = 0
        self._position: float = 0
        self._reported = time.perf_counter()
        #: Whether anyone is told of steps.
        self.is_watched = report is not None

    @contextmanager
    def begun(self, stored: int) -> Iterator[None]:
        """Train in the block; `stored` epochs were trained earlier, and are no work of this fit."""
        with self._work.part(self._epochs * self._passes):
            self._epoch = self._position = stored
            self._work.move(0, (self._epochs - stored) * self._passes)
            if self._report is not None:
                self._report()
            yield

    def step(self, number: int, n_steps: int) -> None:
        """Tell that `number` of the steps of the epoch are made."""
        now = time.perf_counter()
        if self._report is not None and now - self._reported >= _BETWEEN_REPORTS:
            self._reported = now
            self._go_to(self._epoch + number / n_steps)
            self._report()

    def end_epoch(self) -> None:
        """Count the epoch as trained."""
        self._epoch += 1
        self._go_to(self._epoch)

    def _go_to(self, position: float) -> None:
        made, self._position = position - self._position, position
        self._work.move(made * self._passes, (self._epochs - position) * self._passes)
