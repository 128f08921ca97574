"""What every classifier is: an estimator that trains on poisoned data and keeps a clean network."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch

from antibackdoor.backbones import Network
from antibackdoor.defenses._classifier import NetworkClassifier
from antibackdoor.detection import Isolation, IsolationMixin
from antibackdoor.training import (
    ADVICE,
    NETWORK_PARAMETERS,
    Run,
    Samples,
    TrainingEstimator,
    compute_logits,
    current_team,
)
from antibackdoor.utils import Fitted, LazyRows


class BaseDefense(TrainingEstimator, IsolationMixin, NetworkClassifier):
    """Base of the defences.

    A defence writes `_train`, which makes networks with ``run.new_network()``,
    trains them with ``run.phase(...)`` and returns the one to keep and whom it suspects.
    """

    #: Whether the method looks for poisoned rows at all.
    flags_rows: ClassVar[bool] = True

    #: What `fit` keeps beside the attributes of every classifier, for what comes out of a file.
    _fitted_constraints: ClassVar[dict[str, Fitted]] = {}

    history_: list[dict[str, Any]]

    @abstractmethod
    def _train(self, run: Run) -> tuple[Network, Isolation]:
        """Return the clean network and whom it suspects."""

    def _fitted_beforehand(
        self, X: np.ndarray | LazyRows, classes: np.ndarray
    ) -> dict[str, Any] | None:
        return {
            "classes_": classes,
            "n_features_in_": self.n_features_in_,
            "input_shape_": X.shape[1:],
            "_fitted_with": {
                "uint8": X.dtype == np.uint8,
                **{name: getattr(self, name) for name in NETWORK_PARAMETERS},
            },
        }

    def _keep(self, run: Run, kept: tuple[Network, Isolation]) -> None:
        network, isolation = kept
        # What is worked out on each process may differ in a last digit where machines do.
        current_team().copy_first(network.state_dict().values())
        isolation = current_team().from_first(lambda: isolation)
        _check_predictions(network, run.samples)
        assert run.fitted is not None
        for name, value in run.fitted.items():
            setattr(self, name, value)
        self.module_ = network.eval()
        self.history_ = run.history
        self._keep_isolation(run, isolation)

    def _reconstruction(self, run: Run) -> dict[str, Any] | None:
        assert run.fitted is not None
        return {**run.fitted, "module_": self.module_}


def _check_predictions(network: Network, samples: Samples) -> None:
    """See that what was trained predicts: of huge weights, each finite, the logits are not."""
    if (
        not compute_logits(network, samples, torch.arange(1, device=samples.device))
        .isfinite()
        .all()
    ):
        raise FloatingPointError(f"the trained network predicts what is not finite; {ADVICE}")
