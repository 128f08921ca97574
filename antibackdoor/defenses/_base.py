"""Base of the classifiers: estimators that train on poisoned data and keep a clean network."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions

from antibackdoor.backbones import Network
from antibackdoor.defenses._classifier import NetworkClassifier
from antibackdoor.detection import Isolation, IsolationMixin
from antibackdoor.training import (
    ADVICE,
    Recipe,
    Run,
    Samples,
    TrainingEstimator,
    compute_logits,
    current_team,
)
from antibackdoor.training._estimator import NETWORK_PARAMETERS
from antibackdoor.training._optimizers import OPTIMIZERS
from antibackdoor.utils import Fitted, ImageLayout, LazyRows, parameters


@parameters
class BaseDefense(TrainingEstimator, IsolationMixin, NetworkClassifier):
    """Base of the defences: derive from it to write a classifier of your own.

    List its parameters, and implement `_n_phases` and `_train`. The latter creates networks with
    ``run.new_network()``, trains them with ``run.phase(...)``, and returns the network to keep
    and the suspected rows::

        def _train(self, run):
            network = run.new_network()
            run.phase("train", network, CrossEntropy(), epochs=5)
            return network, flag_nothing(len(run.samples))

    Parameters
    ----------
    batch_size : int or "auto", default="auto"
        Samples per training step. ``"auto"``: a 160th of the rows, from 32 to 128.
    optimizer : {"muon", "sgd"}, default="muon"
        ``"sgd"``: stochastic gradient descent. ``"muon"``: the same, but convolutions step along
        the polar factor of their momentum and keep their norm, so that `weight_decay` does not
        touch them. It takes fewer epochs. Networks without convolutions train alike with both.
    learning_rate : float, default=0.1
        Highest rate of the schedule.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained network. It takes float inputs, images as (n, C, H, W), and
        gives logits.

    Examples
    --------
    `UndefendedClassifier` derives from this class. Here it lends its parameters:

    >>> from antibackdoor import UndefendedClassifier
    >>> from antibackdoor.datasets import load_digits_images
    >>> from antibackdoor.detection import flag_nothing
    >>> from antibackdoor.training import CrossEntropy
    >>> class TwoEpochs(UndefendedClassifier):
    ...     def _train(self, run):
    ...         network = run.new_network()
    ...         run.phase("train", network, CrossEntropy(), epochs=2)
    ...         return network, flag_nothing(len(run.samples))
    >>> X, y = load_digits_images()
    >>> len(TwoEpochs(random_state=0).fit(X[:300], y[:300]).history_)
    2
    """

    #: Whether the method flags poisoned rows at all.
    flags_rows: ClassVar[bool] = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "optimizer": [StrOptions(set(OPTIMIZERS))],
    }

    #: Attributes that `fit` sets beside those of every classifier: checked when a file is loaded.
    _fitted_constraints: ClassVar[dict[str, Fitted]] = {}

    batch_size: int | Literal["auto"] = "auto"
    optimizer: Literal["sgd", "muon"] = "muon"

    history_: list[dict[str, Any]] = field(init=False)

    @abstractmethod
    def _train(self, run: Run) -> tuple[Network, Isolation]:
        """Return the clean network and the suspected rows."""

    def _recipe(self, layout: ImageLayout | None) -> Recipe:
        return replace(super()._recipe(layout), optimizer=self.optimizer)

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
        # On different machines the processes may differ in a last digit: the first one counts.
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
    """Check that the trained network gives finite logits: huge finite weights may not."""
    if (
        not compute_logits(network, samples, torch.arange(1, device=samples.device))
        .isfinite()
        .all()
    ):
        raise FloatingPointError(f"the logits of the trained network are not finite; {ADVICE}")
