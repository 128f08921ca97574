"""The loss of every training row after every epoch, as a scikit-learn callback."""

from __future__ import annotations

from typing import Any

import numpy as np

# Smallest probability: the loss of a row is 27.6 nats at most.
_LEAST = 1e-12


class LossRecorder:
    """Callback that records the loss of each training row after each epoch.

    Set it before `fit`, and plot the result::

        recorder = LossRecorder()
        clf = ABLClassifier().set_callbacks(recorder).fit(X, y)
        HistoryDisplay.from_estimator(clf, recorder=recorder)

    The flagged rows are known only after the fit. So the losses of all rows are kept, four bytes
    a row and epoch. It costs one prediction of the training rows in every epoch. Use it for one
    fit at a time, in this process; not in a grid search.

    Attributes
    ----------
    phases_ : list of tuple
        Number and name of the phase of each recorded epoch.
    losses_ : list of numpy.ndarray of shape (n_samples,), float32
        Cross-entropy of each row after each recorded epoch, in nats, without augmentation.

    See Also
    --------
    HistoryDisplay : Plots what was recorded.
    sklearn.callback.ScoringMonitor : Records scores.

    Examples
    --------
    >>> from antibackdoor import UndefendedClassifier
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.inspection import LossRecorder
    >>> X, y = load_digits_images()
    >>> recorder = LossRecorder()
    >>> clf = UndefendedClassifier(epochs=2, random_state=0).set_callbacks(recorder)
    >>> len(clf.fit(X[:200], y[:200]).history_), len(recorder.losses_)
    (2, 2)
    """

    def __init__(self) -> None:
        self._forget()

    def setup(self, estimator: Any, context: Any) -> None:
        """Delete the record of the last fit.

        Parameters
        ----------
        estimator : object
            The estimator whose fit begins.
        context : sklearn.callback.CallbackContext
            Of the fit.
        """
        self._forget()

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing: the record is kept.

        Parameters
        ----------
        estimator : object
            The estimator whose fit ends.
        context : sklearn.callback.CallbackContext
            Of the fit.
        """

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing: losses are recorded when an epoch ends.

        Parameters
        ----------
        estimator : object
            That is fitted.
        context : sklearn.callback.CallbackContext
            Of the task.
        """

    def on_fit_task_end(
        self,
        estimator: Any,
        context: Any,
        *,
        X: Any = None,
        y: Any = None,
        fitted_estimator: Any = None,
    ) -> None:
        """Record the losses, if the task is an epoch.

        Parameters
        ----------
        estimator : object
            That is fitted.
        context : sklearn.callback.CallbackContext
            Of the task.
        X, y : array-like
            Training rows and their labels.
        fitted_estimator : object
            The estimator as fitted so far.
        """
        if context.task_name != "epoch" or fitted_estimator is None:
            return
        classes = fitted_estimator.classes_
        given = fitted_estimator.predict_proba(X)[np.arange(len(y)), np.searchsorted(classes, y)]
        self.phases_.append((context.parent.task_id, context.parent.task_name))
        self.losses_.append(-np.log(given.clip(_LEAST)).astype(np.float32))

    def _forget(self) -> None:
        self.phases_: list[tuple[int, str]] = []
        self.losses_: list[np.ndarray] = []
