"""What tells one fit from another, so that no checkpoint is taken for what it is not."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from antibackdoor.backbones import Network, digest_network
from antibackdoor.training import Samples, Source, check_same, current_team
from antibackdoor.utils import LazyRows, surroundings

# Raised whenever what a fit does changes within a version, or what is remembered of it.
_FORM = 6

# Bytes of X that are read at a time: it may be in a file, or not there yet.
_CHUNK = 2**24

#: Parameters that the result does not depend on, or that are told apart by what they lead to:
#: the seeds and the network that was made.
_LEFT_OUT = ("backbone", "checkpoint_dir", "device", "memory", "random_state")

_PLACES = ("checkpoint_dir", "device", "memory")


def identify_fit(
    estimator: BaseEstimator,
    rows_digest: Callable[[], str],
    labels: torch.Tensor,
    classes: np.ndarray,
    clean_mask: np.ndarray | None,
    seeds: Sequence[int],
    network: Network,
    samples: Samples,
) -> dict[str, Any]:
    """Return what the result of a fit depends on.

    Parameters
    ----------
    estimator : BaseEstimator
    rows_digest : callable
        Returns that of `digest_rows`.
    labels : torch.Tensor of shape (n_samples,), int64
    classes : numpy.ndarray of shape (n_classes,)
    clean_mask : numpy.ndarray of shape (n_samples,), bool, or None
    seeds : sequence of int
    network : Network
        As it is before it is trained.
    samples : Samples
        The rows as the network takes them.

    Returns
    -------
    dict
        Text, numbers, and dicts and lists of them.
    """
    return {
        **_identify_task(estimator, labels, classes, clean_mask),
        "X": rows_digest(),
        "parameters": _parameters(estimator),
        "seeds": list(seeds),
        **identify_training(network, samples),
    }


def identify_training(network: Network, samples: Samples) -> dict[str, Any]:
    """Return what the bits of a training depend on beside data, parameters and randomness.

    For all that is kept of a fit: for its checkpoints, and for what `memory=` holds.

    Parameters
    ----------
    network : Network
        As it is before it is trained.
    samples : Samples
        The rows as the network takes them.

    Returns
    -------
    dict
        Text, numbers, and dicts of them.
    """
    return {
        "form": _FORM,
        "network": digest_network(network, samples.input_shape),
        "processes": current_team().size,
        **surroundings(samples.device),
    }


def check_same_fit(
    estimator: BaseEstimator,
    X: np.ndarray | LazyRows,
    rows_digest: Callable[[], str],
    labels: torch.Tensor,
    classes: np.ndarray,
    clean_mask: np.ndarray | None,
) -> None:
    """Refuse a fit whose processes were given different data or parameters.

    Each process reads all of its X once for that, after all else was found to be the same.

    Parameters
    ----------
    estimator, rows_digest, labels, classes, clean_mask
        As in `identify_fit`.
    X : numpy.ndarray of shape (n_samples, ...) or LazyRows

    Raises
    ------
    ValueError
        On every process, if the fit is not the same on one.
    """
    if current_team().size == 1:
        return
    left_out = {name: getattr(estimator, name, None) for name in _LEFT_OUT}
    # Of what is no text or number the kind must do; directories are the first process's.
    kinds = {
        name: value
        if isinstance(value, str | int) and name not in _PLACES
        else type(value).__name__
        for name, value in left_out.items()
    }
    task = _identify_task(estimator, labels, classes, clean_mask)
    versions = surroundings(torch.device("cpu"))["versions"]
    stored = {"shape": list(X.shape), "dtype": X.dtype.str, "versions": versions, "form": _FORM}
    check_same({**kinds, **_parameters(estimator), **task, **stored})
    check_same({"X": rows_digest()})


def _identify_task(
    estimator: BaseEstimator,
    labels: torch.Tensor,
    classes: np.ndarray,
    clean_mask: np.ndarray | None,
) -> dict[str, Any]:
    return {
        "class": type(estimator).__qualname__,
        "classes": [repr(label) for label in classes.tolist()],
        "clean_mask": None if clean_mask is None else _digest(clean_mask),
        "y": _digest(labels.cpu().numpy()),
    }


def _parameters(estimator: BaseEstimator) -> dict[str, str]:
    parameters = estimator.get_params(deep=False)
    return {name: repr(value) for name, value in parameters.items() if name not in _LEFT_OUT}


def digest_rows(X: np.ndarray | LazyRows, source: Source) -> str:
    """Return a digest of type, shape and values of X, whose rows a source reads."""
    digest = hashlib.sha256(f"{X.dtype.str} {X.shape}".encode())
    together = max(1, _CHUNK // (X.dtype.itemsize * math.prod(X.shape[1:])))
    batches = [
        np.arange(start, min(start + together, len(X))) for start in range(0, len(X), together)
    ]
    for rows in source.read_batches(batches):
        digest.update(rows.tobytes())
    return digest.hexdigest()


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.dtype.str} {array.shape}".encode() + array.tobytes()).hexdigest()
