"""Base of the detectors that train a network plainly and examine the features of each class."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from antibackdoor.detection._base import BaseDetector, Detection
from antibackdoor.detection._select import Isolation
from antibackdoor.training import ADVICE, CrossEntropy, Run, compute_features
from antibackdoor.utils import parameters


@parameters
class FeatureDetector(BaseDetector):
    """Base of the detectors that look for poison in the features of a plainly trained network.

    A detector implements `_flag`, which must leave rows of every class.
    """

    epochs: int = 60

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "epochs": [Interval(Integral, 1, None, closed="left")],
    }

    @abstractmethod
    def _flag(
        self, run: Run, features: np.ndarray, labels: np.ndarray
    ) -> tuple[Isolation, dict[str, np.ndarray]]:
        """Score and flag rows, but never all of a class.

        Parameters
        ----------
        features : numpy.ndarray of shape (n_samples, n_features), float64
            Features from a network trained on all rows.
        labels : numpy.ndarray of shape (n_samples,), int
            Encoded as 0 to n_classes - 1; every class has rows.

        Returns
        -------
        signs : dict of str to numpy.ndarray of shape (n_classes,)
            Evidence of poison in each class.
        """

    def _n_phases(self) -> int:
        return 1

    def _detect(self, run: Run) -> Detection:
        network = run.new_network()
        losses = run.phase("train", network, CrossEntropy(), epochs=self.epochs, keep_losses=True)
        features = compute_features(network, run.samples).double().cpu().numpy()
        if not np.isfinite(features).all():
            raise FloatingPointError(
                f"the features of the trained network are not finite; {ADVICE}"
            )
        isolation, signs = self._flag(run, features, run.labels.cpu().numpy())
        return Detection.untested(
            isolation,
            signs=signs,
            network=network,
            losses=torch.stack(losses).double().cpu().numpy(),
        )
