"""Choice among the candidates of a grid search by two scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from antibackdoor.metrics._checks import check_at_least_zero


def lowest_asr_within(
    tolerance: float = 0.02, ca: str = "ca", asr: str = "neg_asr"
) -> Callable[[Mapping[str, Any]], int]:
    """Make a `refit` for GridSearchCV: the lowest ASR at nearly the best clean accuracy.

    Only candidates whose mean clean accuracy is within `tolerance` of the best are considered.
    Among them the lowest ASR wins, and among equal ones the most accurate.

    Parameters
    ----------
    tolerance : float, default=0.02
        Largest loss of clean accuracy, at least 0; 0.02 is two points.
    ca : str, default="ca"
        Name of the clean accuracy in `scoring`.
    asr : str, default="neg_asr"
        Name of the ASR in `scoring`, negated as `make_asr_scorer` gives it.

    Returns
    -------
    callable
        Takes `cv_results_`, returns the index of the candidate; picklable.

    Raises
    ------
    ValueError
        If `tolerance` is negative or no number. When called, if a score is
        missing or no candidate has both.

    Examples
    --------
    >>> from antibackdoor.metrics import lowest_asr_within
    >>> choose = lowest_asr_within(0.02)
    >>> choose({"mean_test_ca": [0.95, 0.94, 0.60], "mean_test_neg_asr": [-0.9, -0.1, 0.0]})
    1
    """
    return _LowestASRWithin(check_at_least_zero("tolerance", tolerance), ca, asr)


@dataclass(frozen=True)
class _LowestASRWithin:
    tolerance: float
    ca: str
    asr: str

    def __call__(self, cv_results: Mapping[str, Any]) -> int:
        accuracy = self._mean_score(cv_results, self.ca)
        neg_asr = self._mean_score(cv_results, self.asr)
        if accuracy.ndim != 1 or accuracy.shape != neg_asr.shape:
            raise ValueError(
                f"cv_results has {self.ca!r} of shape {accuracy.shape} and {self.asr!r} of shape "
                f"{neg_asr.shape}; wanted one value of each for every candidate."
            )
        scored = np.isfinite(accuracy) & np.isfinite(neg_asr)
        if not scored.any():
            raise ValueError(f"no candidate has both scores, {self.ca!r} and {self.asr!r}.")
        # A tiny bit more, since in floating point 0.95 - 0.02 exceeds 0.93.
        least = accuracy[scored].max() - self.tolerance - 1e-12
        accurate = np.flatnonzero(scored & (accuracy >= least))
        best_last = np.lexsort((accuracy[accurate], neg_asr[accurate]))
        return int(accurate[best_last[-1]])

    def _mean_score(self, cv_results: Mapping[str, Any], name: str) -> np.ndarray:
        prefix = "mean_test_"
        if prefix + name not in cv_results:
            known = sorted(key.removeprefix(prefix) for key in cv_results if key.startswith(prefix))
            raise ValueError(f"scoring has no {name!r}; it has {known}.")
        return np.asarray(cv_results[prefix + name], dtype=float)
