"""What the detectors share that train, flag by the features and train anew on the rest."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from antibackdoor.backbones import Network
from antibackdoor.defenses._base import BaseDefense
from antibackdoor.defenses._run import Run
from antibackdoor.defenses.isolation import Isolation
from antibackdoor.training import Batches, CrossEntropy, ShuffledRows, compute_features


class FilteringDefense(BaseDefense):
    """Base of the defences that look for poison in each class's features, and retrain.

    A defence writes `_flag`, which must leave rows of every class.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseDefense._parameter_constraints,
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "finetune_epochs": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, *, epochs: int, finetune_epochs: int, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.epochs = epochs
        self.finetune_epochs = finetune_epochs

    @abstractmethod
    def _flag(self, run: Run, features: np.ndarray, labels: np.ndarray) -> Isolation:
        """Suspect rows, but never all of a class.

        Parameters
        ----------
        run : Run
        features : numpy.ndarray of shape (n_samples, n_features), float64
            Of a network trained on all rows.
        labels : numpy.ndarray of shape (n_samples,), int
            Encoded as 0 to n_classes - 1, each of which has rows.

        Returns
        -------
        Isolation
        """

    def _n_phases(self) -> int:
        return 2

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        backdoored = self._trained(run, "train", self.epochs)
        features = compute_features(backdoored, run.samples).double().cpu().numpy()
        if not np.isfinite(features).all():
            raise FloatingPointError(
                "the features of the trained network are not finite; a smaller learning_rate or "
                "smaller values in X may keep them so."
            )
        isolation = self._flag(run, features, run.labels.cpu().numpy())
        # From new weights: what has seen the trigger once brings it back.
        rest = ShuffledRows(run.rows(~isolation.mask), self.batch_size)
        return self._trained(run, "finetune", self.finetune_epochs, rest), isolation

    def _trained(
        self, run: Run, phase: str, epochs: int, batches: Batches | None = None
    ) -> Network:
        network = run.new_network()
        self._run_phase(
            run,
            phase,
            network,
            epochs=epochs,
            objective=CrossEntropy(),
            recipe=self._recipe(run),
            batches=batches,
        )
        return network
