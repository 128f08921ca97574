"""Base of the defences that repair a backdoored network with a few clean rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import Interval

from antibackdoor.backbones import Network
from antibackdoor.defenses._base import BaseDefense
from antibackdoor.defenses._row_masks import check_clean_mask, draw_by_class
from antibackdoor.training import (
    CrossEntropy,
    Objective,
    Passes,
    Run,
    ShuffledRows,
    count_epochs_named,
)
from antibackdoor.utils import MASK_OF_ROWS, Fitted, parameters
from antibackdoor.utils._atomic import all_or_nothing

# Fewest steps of an epoch on the clean rows, and the smallest batch that is used to reach them.
# Fifty clean rows in one batch would be one step an epoch, which unlearns nothing.
_STEPS_AN_EPOCH = 20
_SMALLEST_BATCH = 8


@parameters
class CleansingDefense(BaseDefense):
    """Base of the defences that train on all rows and then repair the network with clean ones.

    A defence implements `_train` with `_train_backdoored`, `_clean_rows` and `_finetune`.

    Parameters
    ----------
    epochs : int, default=25
        Passes over all rows.
    batch_size : int or "auto", default="auto"
        Samples per training step. ``"auto"``: a 160th of the rows, from 32 to 128. With few clean
        rows the batches on them are smaller, down to eight, so that an epoch has twenty steps.
    optimizer : {"muon", "sgd"}, default="muon"
        ``"sgd"``: stochastic gradient descent. ``"muon"``: the same, but convolutions step along
        the polar factor of their momentum and keep their norm, so that `weight_decay` does not
        touch them. It takes fewer epochs. Networks without convolutions train alike with both. On
        the clean rows alone it is ``"sgd"``.
    learning_rate : float, default=0.1
        Highest rate of the schedule, on all rows.
    finetune_rate : float, default=0.05
        Highest learning rate of fine-tuning, under the same schedule. Too low a rate leaves the
        backdoor in.
    clean_share : float, default=0.05
        Share of the rows of every class, at least one row, that counts as clean if `fit` gets no
        ``clean_mask``; otherwise unused. These rows are drawn at random: if the data holds
        poison, some of it is drawn too, and the defence then removes little or nothing.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, the order of the samples, the augmentation and the draw of
        `clean_share`.

    Attributes
    ----------
    module_ : torch.nn.Module
        The cleansed network. It takes float inputs, images as (n, C, H, W), and
        gives logits.
    clean_mask_ : numpy.ndarray of shape (n_samples,), bool
        Rows that counted as clean.
    isolate_ : numpy.ndarray of shape (n_isolated,), int64
        Empty: this method flags no rows.
    isolate_classes_ : numpy.ndarray of shape (0,)
        Labels of the flagged rows, of which there are none.
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Zeros.
    """

    epochs: int = 25
    finetune_epochs: int = 20
    finetune_rate: float = 0.05
    clean_share: float = 0.05

    flags_rows = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "finetune_epochs": [Interval(Integral, 1, None, closed="left")],
        "finetune_rate": [Interval(Real, 0, None, closed="neither")],
        "clean_share": [Interval(Real, 0, 1, closed="right")],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "clean_mask_": MASK_OF_ROWS,
    }

    clean_mask_: np.ndarray = field(init=False)

    @_fit_context(prefer_skip_nested_validation=True)
    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: Any, clean_mask: Any = None) -> Self:
        """Train on data that may hold poison, then repair with rows known to be clean.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W), \
                (n_samples, H, W, C) or (n_samples, C, H, W)
            Training rows. uint8 values are pixels and are scaled to [0, 1]; floats are used as
            given. A memory-mapped array or a `LazyRows` is read batch by batch.
        y : array-like of shape (n_samples,)
            Class labels of any type, of two classes or more.
        clean_mask : array-like of shape (n_samples,), bool, default=None
            Rows whose input and label are known to be clean: at least one of every class. None:
            a random `clean_share` of every class counts as clean. If the data holds poison, SOME
            OF IT IS DRAWN TOO AND KEEPS THE BACKDOOR ALIVE. In a pipeline or a grid search, pass
            the mask by metadata routing: ``set_fit_request(clean_mask=True)``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data is not valid. Nothing is trained then, and the estimator
            is unchanged.
        FloatingPointError
            If the training diverges. The estimator is unchanged.
        """
        return self._fit(X, y, clean_mask=clean_mask)

    def _passes(self, n_rows: int, *, images: bool = True, reviewed: bool = False) -> list[Passes]:
        """Return those of `epochs` on all rows, and of the others on the share that is clean."""
        all_epochs = count_epochs_named(self.get_params())
        repair = (all_epochs - self.epochs) * self.clean_share
        return [self._own_passes(self.epochs + repair, n_rows)]

    def _check_given(self, given: Mapping[str, Any], y: np.ndarray) -> dict[str, np.ndarray]:
        clean_mask = given["clean_mask"]
        return {} if clean_mask is None else {"clean_mask": check_clean_mask(clean_mask, y)}

    def _clean_rows(self, run: Run) -> torch.Tensor:
        """Return the indices of the rows that count as clean, and set `clean_mask_`."""
        if "clean_mask" in run.given:
            rows = run.rows(run.given["clean_mask"])
        else:
            rows = draw_by_class(run.labels, self.clean_share, run.generator)
        self.clean_mask_ = np.zeros(len(run.samples), dtype=bool)
        self.clean_mask_[rows.cpu().numpy()] = True
        return rows

    def _train_backdoored(self, run: Run) -> Network:
        """Train a network on all rows, so that it learns any backdoor in them."""
        network = run.new_network()
        run.phase("train", network, CrossEntropy(), epochs=self.epochs)
        return network

    def _finetune(
        self,
        run: Run,
        name: str,
        network: Network,
        clean_rows: torch.Tensor,
        objective: Objective,
    ) -> None:
        """Train a network further, on the clean rows alone."""
        few_steps = max(_SMALLEST_BATCH, len(clean_rows) // _STEPS_AN_EPOCH)
        run.phase(
            name,
            network,
            objective,
            epochs=self.finetune_epochs,
            recipe=run.recipe.for_repair(learning_rate=self.finetune_rate),
            batches=ShuffledRows(clean_rows, min(run.batch_size, few_steps)),
        )
