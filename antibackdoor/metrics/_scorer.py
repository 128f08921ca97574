"""Base of the scorers: they can leave poisoned rows out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.metadata_routing import MetadataRequest

from antibackdoor.utils._arguments import check_mask


class Scorer(ABC):
    """A scorer that can leave poisoned rows out."""

    # Requested by default, since only these scorers use the mask.
    _poison_mask_request: bool | str | None = True

    def __call__(
        self, estimator: Any, X: ArrayLike, y: ArrayLike, poison_mask: ArrayLike | None = None
    ) -> float:
        """Score a fitted estimator.

        Parameters
        ----------
        estimator : object
            Anything with `predict`.
        X : array-like of shape (n, ...)
            Rows without trigger, except those in `poison_mask`.
        y : array-like of shape (n,)
            Their labels.
        poison_mask : array-like of bool, shape (n,), default=None
            Rows to leave out.

        Returns
        -------
        float
            Higher is better.

        Raises
        ------
        ValueError
            If no row is left to count, or the mask does not fit.
        TypeError
            If the mask is not boolean.
        """
        check_consistent_length(X, y)
        if poison_mask is not None:
            clean = np.flatnonzero(~check_mask("poison_mask", poison_mask, len(np.asarray(y))))
            if len(clean) == 0:
                raise ValueError("poison_mask marks every row: no clean row is left to count.")
            X, y = _safe_indexing(X, clean), _safe_indexing(y, clean)
        return self._score(estimator, X, y)

    @abstractmethod
    def _score(self, estimator: Any, X: Any, y: Any) -> float: ...

    def set_score_request(self, *, poison_mask: bool | str | None) -> Scorer:
        """Set whether metadata routing passes `poison_mask`, or under which other name.

        Parameters
        ----------
        poison_mask : bool, str or None
            True, the default: it is passed. A string: it is passed under this name. False: it is
            not passed. None: an error if it is given.
        """
        self._poison_mask_request = poison_mask
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the requests of the scorer for scikit-learn's metadata routing."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="poison_mask", alias=self._poison_mask_request)
        return request

    def _accept_sample_weight(self) -> bool:
        # scikit-learn's searches call this on every scorer if fit gets sample weights.
        return False
