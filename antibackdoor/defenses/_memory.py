"""A phase of a fit that is computed once for all fits that begin alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from joblib import Memory
from joblib.memory import MemorizedFunc
from sklearn.utils.validation import check_memory

from antibackdoor.backbones import Network, to_arrays
from antibackdoor.defenses._identity import identify_training
from antibackdoor.defenses._run import Run
from antibackdoor.training import current_team
from antibackdoor.utils import random_states, restore_random_states

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
    states of the generators, and where `identify_training` says that the bits would be others;
    callbacks are told of epochs only where it is. What a callback
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
    parameters = {
        **identify_training(network, run.samples),
        "compiles": run.acceleration.compiles,
        **parameters,
    }
    # Of the values: a file keeps its name when it is changed.
    key = (parameters, run.rows_digest(), run.y, start)
    beside = {"run": run, "network": network, "compute": compute}
    answer, end, history = _recall(recall, key, beside)
    network.load_state_dict({name: _to_tensor(array) for name, array in end["weights"].items()})
    restore_random_states(
        run.generator, {name: _to_tensor(array) for name, array in end["random"].items()}
    )
    run.history[n_before:] = history
    return answer


def _recall(
    recall: MemorizedFunc, key: tuple[Any, ...], beside: dict[str, Any]
) -> tuple[Any, dict[str, Any], list[dict[str, Any]]]:
    """Ask the memory: of several processes the first, and all compute what is not there."""
    team = current_team()
    if team.size == 1:
        return recall(*key, **beside)
    if team.from_first(lambda: recall.check_call_in_cache(*key, **beside)):
        return team.from_first(lambda: recall(*key, **beside))
    # Asked again, the memory might hold by now what another fit has computed, for one of us.
    return recall.call(*key, **beside)[0] if team.rank == 0 else _compute(*key, **beside)


def _compute(
    parameters: dict[str, Any],
    X: str,
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
    random = random_states(run.generator)
    return {
        "weights": to_arrays(network),
        "random": {name: state.numpy() for name, state in random.items()},
    }


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    # A copy: a memory that maps its files gives arrays that must not be written to.
    return torch.from_numpy(np.array(array))
