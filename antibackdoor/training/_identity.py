"""The identity of a fit, so that stored phases are not reused for another fit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from antibackdoor.backbones import Network, digest_network
from antibackdoor.training._digest import digest_of
from antibackdoor.training._parallel import check_same, current_team
from antibackdoor.training._samples import Samples
from antibackdoor.training._sources import Source
from antibackdoor.utils import LazyRows
from antibackdoor.utils._surroundings import surroundings

# Increased whenever the computation of a fit, or the stored state, changes within a version.
_FORM = 7

# Bytes of X that are read at a time: X may be in a file, or lazy.
_CHUNK = 2**24

#: Parameters that are places, or that are told apart by what they lead to: the seeds and the
#: network that was made. The last part of a nested one's name counts.
_LEFT_OUT = ("backbone", "cache_dir", "device", "random_state")


def identify_fit(
    rows_digest: Callable[[], str],
    labels: torch.Tensor,
    given: Mapping[str, np.ndarray],
    network: Network,
    samples: Samples,
) -> dict[str, Any]:
    """Return everything that the result of a phase of a fit depends on.

    Parameters
    ----------
    rows_digest : callable
        Returns that of `digest_rows`.
    labels : torch.Tensor of shape (n_samples,), int64
    given : mapping of str to numpy.ndarray of shape (n_samples,), bool
        Masks of rows that were given to `fit`.
    network : Network
        The network before training.
    samples : Samples
        The rows as inputs of the network.

    Returns
    -------
    dict
        Text, numbers, and dicts of them.
    """
    return {
        "X": rows_digest(),
        "y": digest_of(labels),
        "given": digest_of(dict(given)),
        "form": _FORM,
        "network": digest_network(network, samples.input_shape),
        "processes": current_team().size,
        **surroundings(samples.device),
    }


def identify_parameters(estimator: BaseEstimator) -> dict[str, str]:
    """Return the parameters that the result of a fit depends on, those of nested objects too."""
    return {
        name: repr(value)
        for name, value in estimator.get_params().items()
        if name.rpartition("__")[2] not in _LEFT_OUT
    }


def check_same_fit(
    estimator: BaseEstimator,
    X: np.ndarray | LazyRows,
    rows_digest: Callable[[], str],
    labels: torch.Tensor,
    classes: np.ndarray,
    given: Mapping[str, np.ndarray],
) -> None:
    """Refuse a fit whose processes got different data or parameters.

    Each process reads all of its X once for this, after everything else was found equal.

    Parameters
    ----------
    X : numpy.ndarray of shape (n_samples, ...) or LazyRows
    rows_digest, labels, given
        As in `identify_fit`.
    classes : numpy.ndarray of shape (n_classes,)

    Raises
    ------
    ValueError
        On every process, if the fit is not the same on one.
    """
    if current_team().size == 1:
        return
    # Of what is no text or number the kind must do; directories are the first process's.
    left_out = {name: getattr(estimator, name, None) for name in _LEFT_OUT}
    kinds = {
        name: value
        if isinstance(value, str | int) and name not in ("cache_dir", "device")
        else type(value).__name__
        for name, value in left_out.items()
    }
    check_same(
        {
            **kinds,
            **identify_parameters(estimator),
            "class": type(estimator).__qualname__,
            "classes": [repr(label) for label in classes.tolist()],
            "given": {name: digest_of(mask) for name, mask in given.items()},
            "y": digest_of(labels),
            "versions": surroundings(torch.device("cpu"))["versions"],
            "form": _FORM,
            "shape": list(X.shape),
            "dtype": X.dtype.str,
        }
    )
    check_same({"X": rows_digest()})


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
