"""What tells one fit from another, so that no checkpoint is taken for what it is not."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from antibackdoor.backbones import Network, to_arrays
from antibackdoor.training._parallel import check_same, current_team
from antibackdoor.training._sources import Source
from antibackdoor.utils import LazyRows

# Raised whenever what a fit does changes within a version, or what is remembered of it.
FORM = 5

# Bytes of X that are read at a time: it may be in a file, or not there yet.
_CHUNK = 2**24

#: Parameters that the result does not depend on, or that are told apart by what they lead to:
#: the seeds and the network that was made.
_LEFT_OUT = ("backbone", "checkpoint_dir", "device", "memory", "random_state")

_PLACES = ("checkpoint_dir", "device", "memory")

# Rows of X that the processes of a fit compare, at least.
_N_COMPARED = 256


def identify_fit(
    estimator: BaseEstimator,
    X: np.ndarray | LazyRows,
    source: Source,
    labels: torch.Tensor,
    classes: np.ndarray,
    given: Mapping[str, np.ndarray],
    seeds: Sequence[int],
    network: Network,
) -> dict[str, Any]:
    """Return what the result of a fit depends on.

    Parameters
    ----------
    estimator : BaseEstimator
    X : numpy.ndarray of shape (n_samples, ...) or LazyRows
    source : Source
        Reads its rows.
    labels : torch.Tensor of shape (n_samples,), int64
    classes : numpy.ndarray of shape (n_classes,)
    given : mapping of str to numpy.ndarray of shape (n_samples,), bool
        Masks of rows that fit was told of.
    seeds : sequence of int
    network : Network
        As it is before it is trained.

    Returns
    -------
    dict
        Text, numbers, and dicts and lists of them.
    """
    return {
        **_identify_task(estimator, digest_rows(X, source), labels, classes, given),
        "device": next(network.parameters()).device.type,
        "network": _digest_network(network),
        "parameters": _parameters(estimator),
        "seeds": list(seeds),
    }


def check_same_fit(
    estimator: BaseEstimator,
    X: np.ndarray | LazyRows,
    source: Source,
    labels: torch.Tensor,
    classes: np.ndarray,
    given: Mapping[str, np.ndarray],
) -> None:
    """Refuse a fit whose processes were given different data or parameters.

    Of `X` some rows are looked at: each process would else read all that may lie in a file.

    Parameters
    ----------
    estimator, X, source, labels, classes, given
        As in `identify_fit`.

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
    some = source.read(np.arange(0, len(X), max(1, len(X) // _N_COMPARED)))
    task = _identify_task(estimator, _digest(some), labels, classes, given)
    check_same({**kinds, **_parameters(estimator), **task, "shape": list(X.shape)})


def _identify_task(
    estimator: BaseEstimator,
    rows: str,
    labels: torch.Tensor,
    classes: np.ndarray,
    given: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    return {
        "class": type(estimator).__qualname__,
        "classes": [repr(label) for label in classes.tolist()],
        "given": {name: _digest(mask) for name, mask in given.items()},
        "versions": {name: version(name) for name in ("antibackdoor", "torch")},
        "form": FORM,
        "X": rows,
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


def _digest_network(network: Network) -> str:
    digest = hashlib.sha256(str(network).encode())
    for name, array in to_arrays(network).items():
        digest.update(name.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
