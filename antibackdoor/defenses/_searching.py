"""What the defences share that look for poison in what a backdoored network sees."""

from __future__ import annotations

import math
import warnings
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from joblib import Memory
from sklearn.utils._param_validation import HasMethods, Interval

from antibackdoor.backbones import Network
from antibackdoor.defenses._base import BaseDefense
from antibackdoor.defenses._run import Run
from antibackdoor.defenses.isolation import (
    FEWEST_CLASSES,
    INSTEAD,
    MOST_EXAMINATIONS,
    SMALLEST_CLASS,
    Finding,
    Isolation,
    count_large,
    find_poison,
)
from antibackdoor.training import CrossEntropy, ShuffledRows, compute_logits
from antibackdoor.utils import Fitted, FittedNumber, signs_of_classes

# Samples of a step of the networks that search. A trigger is learned step by step: an epoch of few
# rows has forty steps at least; one of many is cut into more than 160 by `batch_size` alone.
_BATCH = 32
_SMALLEST_BATCH = 8
_FEWEST_STEPS, _MOST_STEPS = 40, 160


class SearchingDefense(BaseDefense):
    """Base of the defences that train a network to be backdoored and search it for poison."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseDefense._parameter_constraints,
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
        "memory": [str, HasMethods(["cache"]), None],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        **BaseDefense._fitted_constraints,
        "isolate_pvalue_": FittedNumber(kind=float, low=0, high=1, nan=True),
        # None of them where there was no search.
        "isolate_signs_": signs_of_classes("transplant", "diversity", "misfits"),
    }

    isolation_ratio: Any
    false_alarm_rate: float
    memory: str | Memory | None
    isolate_pvalue_: float
    isolate_signs_: dict[str, np.ndarray]

    def _searches(self, run: Run) -> bool:
        """Tell whether this fit searches: a table's natural clusters look like poison to it."""
        return self.isolation_ratio == "auto" and run.samples.layout is not None

    def _n_examinations(self) -> int:
        """Return how many phases a search has at most; whether it will be one, data will tell."""
        return MOST_EXAMINATIONS if self.isolation_ratio == "auto" else 0

    def _search_batch(self, run: Run) -> int:
        """Samples of a step of the networks that search, `batch_size` at most."""
        if not self._searches(run):
            return self.batch_size
        n_samples = len(run.samples)
        fewest = n_samples // _MOST_STEPS
        most = max(_SMALLEST_BATCH, n_samples // _FEWEST_STEPS)
        return min(self.batch_size, most, max(_BATCH, fewest))

    def _search(self, run: Run, network: Network, scores: np.ndarray, epochs: int) -> Finding:
        """Search a backdoored network.

        Parameters
        ----------
        run : Run
        network : Network
            Trained on all rows.
        scores : numpy.ndarray of shape (n_samples,)
            Suspicion from its losses.
        epochs : int
            That it was trained for.

        Returns
        -------
        Finding
        """

        def examiner(
            trained_on: np.ndarray, share: float, network: Network | None = None
        ) -> Network:
            # What has been learned is not to be thrown over by what is shown beside it.
            learning_rate = self.learning_rate if network is None else self.learning_rate / 2
            asked = run.new_network() if network is None else network
            self._run_phase(
                run,
                "examine",
                asked,
                epochs=math.ceil(share * epochs),
                objective=CrossEntropy(),
                recipe=self._recipe(
                    run, learning_rate=learning_rate, schedule="onecycle", augmentation=None
                ),
                batches=ShuffledRows(run.rows(trained_on), self._search_batch(run)),
            )
            return asked

        return find_poison(
            network,
            run.samples,
            run.labels.cpu().numpy(),
            scores,
            examiner=examiner,
            false_alarm_rate=self.false_alarm_rate,
            seed=run.draw_seed(),
        )

    def _keep_finding(self, run: Run, finding: Finding) -> None:
        if self._searches(run) and math.isnan(finding.p_value):
            n_large = count_large(run.labels.cpu().numpy())
            found = (
                f"y has {n_large} classes of {SMALLEST_CLASS} rows or more, and the search needs "
                f"{FEWEST_CLASSES}"
                if n_large < FEWEST_CLASSES
                else "no class of this data has two parts to compare"
            )
            # Here, and not where it searches: what the memory recalls is told again.
            warnings.warn(
                f"{type(self).__name__} has not searched for poison, and flags nothing: {found}. "
                f"{INSTEAD}",
                UserWarning,
                stacklevel=2,
            )
        self.isolate_pvalue_ = finding.p_value
        self.isolate_signs_ = finding.signs


def judge_doubtful(
    run: Run, network: Network, isolation: Isolation, trusted: np.ndarray
) -> Isolation:
    """Flag the rows, neither trusted nor flagged, whose label a clean network does not give."""
    logits = compute_logits(network, run.samples)
    rejected = (logits.argmax(1) != run.labels).cpu().numpy()
    flagged = isolation.mask | (~trusted & rejected)
    # Just above the threshold: less suspect than any row that was flagged before.
    just_above = np.nextafter(isolation.threshold, np.inf)
    scores = np.where(flagged, np.maximum(isolation.scores, just_above), isolation.scores)
    return Isolation(scores, isolation.threshold)
