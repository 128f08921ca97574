"""A phase of a fit that is computed once for all fits that begin alike."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import torch
from joblib import Memory
from sklearn.utils.validation import check_memory

from antibackdoor.backbones import Network, to_arrays
from antibackdoor.defenses._run import Run

Answer = TypeVar("Answer")


def remembered(
    memory: str | Memory | None,
    run: Run,
    network: Network,
    parameters: dict[str, Any],
    compute: Callable[[], Answer],
) -> Answer:
    """Return what `compute` returns, from the memory where it has been computed before.

    Either way the network, the generators and the history are afterwards as `compute`
    leaves them. It is computed again for other data, parameters, initial weights or
    states of the generators; callbacks are told of epochs only where it is. What a callback
    has cut short is remembered as it was. A backbone that is no name is not remembered.

    Parameters
    ----------
    memory : str, joblib.Memory or None
        As in `sklearn.pipeline.Pipeline`.
    run : Run
    network : Network
        That `compute` trains in place.
    parameters : dict
        All that `compute` depends on beside data, network and randomness.
    compute : callable
        Returns what joblib can store.

    Returns
    -------
    object
    """
    # joblib tells functions by their name and a module not at all.
    if memory is None or not isinstance(parameters["backbone"], str):
        return compute()
    recall = check_memory(memory).cache(_compute, ignore=["run", "network", "compute"])
    n_before = len(run.history)
    start = _state(run, network)
    parameters = {"version": version("antibackdoor"), **parameters}
    answer, end, history = recall(
        parameters, run.X, run.y, start, run=run, network=network, compute=compute
    )
    network.load_state_dict({name: _to_tensor(array) for name, array in end["weights"].items()})
    run.generator.set_state(_to_tensor(end["generator"]))
    torch.default_generator.set_state(_to_tensor(end["torch"]))
    if run.device.type == "cuda":
        torch.cuda.set_rng_state(_to_tensor(end["cuda"]), run.device)
    run.history[n_before:] = history
    return answer


def _compute(
    parameters: dict[str, Any],
    X: np.ndarray,
    y: np.ndarray,
    start: dict[str, Any],
    run: Run,
    network: Network,
    compute: Callable[[], Any],
) -> tuple[Any, dict[str, Any], list[dict[str, Any]]]:
    n_before = len(run.history)
    answer = compute()
    return answer, _state(run, network), run.history[n_before:]


def _state(run: Run, network: Network) -> dict[str, Any]:
    """Return the weights and the states of all generators, as arrays."""
    on_gpu = run.device.type == "cuda"
    return {
        "weights": to_arrays(network),
        "generator": run.generator.get_state().numpy(),
        "torch": torch.default_generator.get_state().numpy(),
        "cuda": torch.cuda.get_rng_state(run.device).numpy() if on_gpu else None,
    }


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    # A copy: a memory that maps its files gives arrays that must not be written to.
    return torch.from_numpy(np.array(array))
