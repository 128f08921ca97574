"""What tells one fit from another, so that no checkpoint is taken for what it is not."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from antibackdoor.backbones import Network, to_arrays
from antibackdoor.training import Source
from antibackdoor.utils import LazyRows

# Bytes of X that are read at a time: it may be in a file, or not there yet.
_CHUNK = 2**24

#: Parameters that the result does not depend on, or that are told apart by what they lead to:
#: the seeds and the network that was made.
_LEFT_OUT = ("backbone", "checkpoint_dir", "device", "memory", "random_state")


def identify_fit(
    estimator: BaseEstimator,
    X: np.ndarray | LazyRows,
    source: Source,
    labels: torch.Tensor,
    classes: np.ndarray,
    clean_mask: np.ndarray | None,
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
    clean_mask : numpy.ndarray of shape (n_samples,), bool, or None
    seeds : sequence of int
    network : Network
        As it is before it is trained.

    Returns
    -------
    dict
        Text, numbers, and dicts and lists of them.
    """
    parameters = estimator.get_params(deep=False)
    return {
        "class": type(estimator).__qualname__,
        "classes": [repr(label) for label in classes.tolist()],
        "clean_mask": None if clean_mask is None else _digest(clean_mask),
        "device": next(network.parameters()).device.type,
        "network": _digest_network(network),
        "parameters": {
            name: repr(value) for name, value in parameters.items() if name not in _LEFT_OUT
        },
        "seeds": list(seeds),
        "versions": {name: version(name) for name in ("antibackdoor", "torch")},
        "X": digest_rows(X, source),
        "y": _digest(labels.cpu().numpy()),
    }


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
