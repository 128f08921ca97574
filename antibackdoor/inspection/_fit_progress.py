"""How far a fit is and how long it takes, as a callback of scikit-learn."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

from antibackdoor.inspection._estimate import expected_passes, time_passes
from antibackdoor.training import TrainingEstimator, current_team
from antibackdoor.utils import in_words

# Below this share of the work the time left is told by the estimate, where there is one: the first
# steps are slow, for they make everything ready.
_EARLY = 0.05

# Seconds between two lines within a phase.
_BETWEEN_LINES = 60


class _View(Protocol):
    def show(self, share: float, left: str, doing: str) -> None:
        """Show the share of the work that is done, the time that is left, and the phase."""

    def close(self) -> None:
        """End."""


@dataclass
class _Fit:
    """What is known of a fit that is under way."""

    context: Any
    view: _View
    began: float = field(default_factory=time.perf_counter)
    share: float = 0.0
    doing: str = ""
    #: Numbers of passes and seconds of each, in the order of the fit; empty without an estimate.
    timed: list[tuple[float, float]] = field(default_factory=list)
    #: Passes that were done and left when `weigh` was last called.
    done: float = 0.0
    left: float = 0.0
    #: Estimated seconds of those that were done.
    seconds: float = 0.0

    def weigh(self, done: float, left: float) -> tuple[float, float]:
        """Return the estimated seconds of what is done and of what is left.

        A pass is told from how many were left before it. So passes that a fit leaves out are none
        of those that it makes. Without times a pass takes a second.
        """
        made, self.done = done - self.done, done
        before = _seconds_of_last(self.timed, self.left)
        self.seconds += before - _seconds_of_last(self.timed, self.left - made)
        self.left = left
        return self.seconds, _seconds_of_last(self.timed, left)


class FitProgress:
    """Callback that shows how far a fit is, and how long it takes.

    Set it before `fit`::

        clf = ABLClassifier().set_callbacks(FitProgress()).fit(X, y)

    It writes to the error stream:

    - at the beginning about how long the fit takes, from a few steps that are timed;
    - on a terminal one bar for the whole fit, with the time left. It needs rich, which comes with
      the extra ``[progress]``;
    - anywhere else, such as in a notebook or a file, a line for each phase, and one a minute in a
      long phase.

    The unit is the training pass over all rows. The phases that are expected weigh as much as they
    have epochs and rows, and the bar moves within an epoch. Where a detector finds nothing and
    leaves out phases, the bar jumps. The result of the fit is the same as without it, also where a
    backbone draws from global generators. Under torchrun the first process alone shows it.

    Parameters
    ----------
    estimate : bool, default=True
        Whether to time a few steps before the fit begins. This takes seconds for small images, and
        about half a minute for photos on a CPU.

    Raises
    ------
    TypeError
        If `estimate` is neither True nor False.

    See Also
    --------
    estimate_fit : The estimate alone, as a number.
    sklearn.callback.ProgressBar : A bar for each phase, which moves with its epochs.

    Examples
    --------
    >>> from antibackdoor import FitProgress, UndefendedClassifier
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> clf = UndefendedClassifier(epochs=2, random_state=0).set_callbacks(FitProgress())
    >>> len(clf.fit(X[:300], y[:300]).history_)
    2
    """

    def __init__(self, *, estimate: bool = True) -> None:
        if not isinstance(estimate, bool):
            raise TypeError(f"estimate={estimate!r}; wanted True or False.")
        self.estimate = estimate
        self._fits: dict[int, _Fit] = {}

    def setup(self, estimator: Any, context: Any) -> None:
        """Begin with nothing done.

        Parameters
        ----------
        estimator : object
            The estimator whose fit begins.
        context : sklearn.callback.CallbackContext
            Of the fit.
        """
        # Under torchrun all processes are equally far.
        if current_team().rank:
            view: _View = _Nothing()
        else:
            view = _Bar() if _can_redraw() else _Lines()
        # The fits of a grid search share one callback, and may run in threads.
        self._fits[id(context)] = _Fit(context, view)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Leave the screen as it is.

        Parameters
        ----------
        estimator : object
            The estimator whose fit ends.
        context : sklearn.callback.CallbackContext
            Of the fit.
        """
        fit = self._fits.pop(id(context), None)
        if fit is not None:
            fit.view.close()

    def on_fit_task_begin(
        self, estimator: Any, context: Any, *, X: Any = None, y: Any = None
    ) -> None:
        """Time a few steps at the beginning of the fit; note the phase.

        Parameters
        ----------
        estimator : object
            That is fitted.
        context : sklearn.callback.CallbackContext
            Of the task.
        X, y : array-like
            Training rows and their labels.
        """
        fit = self._find(context)
        if context is fit.context:
            is_shown = not isinstance(fit.view, _Nothing)
            if self.estimate and is_shown and isinstance(estimator, TrainingEstimator):
                fit.timed = _time_passes(estimator, X, y)
            fit.began = time.perf_counter()
        elif context.parent is fit.context:
            n_epochs = context.max_subtasks
            epochs = "1 epoch" if n_epochs == 1 else f"{n_epochs} epochs"
            fit.doing = f"phase {context.task_id + 1}, {context.task_name}, {epochs}"

    def on_fit_work(self, estimator: Any, context: Any, *, done: float, left: float) -> None:
        """Show how far the fit is.

        Parameters
        ----------
        estimator : object
            That is fitted.
        context : sklearn.callback.CallbackContext
            Of the phase; at the beginning, of the fit.
        done, left : float
            Passes over all rows that are done, and that are expected to follow.
        """
        fit = self._find(context)
        of_done, of_left = fit.weigh(done, left)
        if context is fit.context:
            if fit.timed:
                self.tell_estimate(of_left)
            return
        # Where more is left than was expected, the bar waits.
        fit.share = max(fit.share, done / (done + left) if done + left else 0.0)
        if fit.timed and fit.share < _EARLY:
            seconds = of_left
        elif done:
            seconds = (time.perf_counter() - fit.began) * of_left / of_done
        else:
            seconds = None
        told = "" if seconds is None else f"about {in_words(seconds)} left"
        fit.view.show(fit.share, told, fit.doing)

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Show that the fit is done.

        Parameters
        ----------
        estimator : object
            That is fitted.
        context : sklearn.callback.CallbackContext
            Of the task.
        """
        fit = self._find(context)
        if context is fit.context:
            spent = in_words(time.perf_counter() - fit.began)
            fit.view.show(1.0, f"after {spent}", "done")

    def tell_estimate(self, seconds: float) -> None:
        """Print the estimated time; a subclass may say more.

        Parameters
        ----------
        seconds : float
            Of the whole fit.
        """
        _print(f"estimated time, from a few steps: about {in_words(seconds)}")

    def _find(self, context: Any) -> _Fit:
        while id(context) not in self._fits:
            context = context.parent
        return self._fits[id(context)]

    def __getstate__(self) -> dict[str, Any]:
        # Another process shows its own fits.
        return {**vars(self), "_fits": {}}


class _Nothing:
    def show(self, share: float, left: str, doing: str) -> None:
        return

    def close(self) -> None:
        return


class _Lines:
    """A line for each phase, and one a minute within it."""

    def __init__(self) -> None:
        self._told = -float("inf")
        self._doing = ""

    def show(self, share: float, left: str, doing: str) -> None:
        now = time.perf_counter()
        if doing == self._doing and share < 1 and now - self._told < _BETWEEN_LINES:
            return
        self._told, self._doing = now, doing
        _print(f"{_percent(share)}: {', '.join(part for part in (doing, left) if part)}")

    def close(self) -> None:
        return


class _Bar:
    """One bar of rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        # It is drawn when there is news; a thread of its own would take time from the training.
        self._progress = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}", style="dim"),
            console=Console(stderr=True),
            auto_refresh=False,
            # What is printed meanwhile goes where it would go.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: Any = None

    def show(self, share: float, left: str, doing: str) -> None:
        if self._task is None:
            self._task = self._progress.add_task(doing, total=1.0, left=left)
            self._progress.start()
        self._progress.update(
            self._task, completed=share, description=doing, left=left, refresh=True
        )

    def close(self) -> None:
        self._progress.stop()


def _can_redraw() -> bool:
    """Return whether the error stream is a terminal on which rich can draw a bar."""
    stream = sys.stderr
    is_open = stream is not None and not getattr(stream, "closed", False)
    if not is_open or not stream.isatty() or find_spec("rich") is None:
        return False
    from rich.console import Console

    # A terminal named "dumb" cannot redraw a line.
    return Console(stderr=True).is_interactive


def _time_passes(estimator: TrainingEstimator, X: Any, y: Any) -> list[tuple[float, float]]:
    try:
        return time_passes(expected_passes(estimator, X), X, y)
    except Exception as error:
        # A fit does not fail for want of an estimate.
        _print(f"no estimate of the time: {type(error).__name__}: {error}")
        return []


def _seconds_of_last(timed: list[tuple[float, float]], passes: float) -> float:
    """Return the seconds of so many passes at the end; more of them take as long as the first."""
    seconds, of_a_pass = 0.0, 1.0
    for number, of_a_pass in reversed(timed):
        taken = min(number, passes)
        seconds += taken * of_a_pass
        passes -= taken
    return seconds + passes * of_a_pass


def _percent(share: float) -> str:
    return f"{100 * share:3.0f} %"


def _print(line: str) -> None:
    if sys.stderr is None:
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # Closed, or without a character of the name of a phase: the fit goes on.
        return
