"""Progress of a fit on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from sklearn.callback import ProgressBar

from antibackdoor.cli._text import note
from antibackdoor.cli._time import in_words


class PhaseLines:
    """A callback that prints a line for each phase, if there is no terminal."""

    def setup(self, estimator: Any, context: Any) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Name the phase; the fit is above it and the epochs are below."""
        if context.parent is not None and context.parent.parent is None:
            phase, n_phases = context.task_id + 1, context.parent.max_subtasks
            epochs = "1 epoch" if context.max_subtasks == 1 else f"{context.max_subtasks} epochs"
            spent = in_words(time.perf_counter() - self._started)
            since = "" if phase == 1 else f" (after {spent})"
            note(f"phase {phase} of {n_phases} at most: {context.task_name}, {epochs}{since}")

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Do nothing."""


@contextmanager
def showing_progress(estimator: Any, *, quiet: bool) -> Iterator[None]:
    """Show the progress of an estimator on the error stream within the block.

    Parameters
    ----------
    estimator : object
        One that takes scikit-learn's callbacks.
    quiet : bool
        Whether to show none.
    """
    if quiet:
        yield
        return
    if sys.stderr is None or not sys.stderr.isatty() or find_spec("rich") is None:
        estimator.set_callbacks(PhaseLines())
        yield
        return
    import rich

    # scikit-learn's bar uses rich's default console, which is on the standard output.
    rich.reconfigure(stderr=True)
    # A terminal named "dumb" cannot redraw a line.
    can_redraw = rich.get_console().is_interactive
    estimator.set_callbacks(ProgressBar() if can_redraw else PhaseLines())
    try:
        yield
    finally:
        rich.reconfigure()
