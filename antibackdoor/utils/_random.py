"""Randomness that comes from `random_state` and touches no global generator."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

from antibackdoor.utils._own_draws import current_draws, own_draws


def draw_seed(random_state: np.random.RandomState) -> int:
    """Draw a seed for one torch generator.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.utils import draw_seed
    >>> draw_seed(np.random.RandomState(0)) == draw_seed(np.random.RandomState(0))
    True
    """
    return int(random_state.randint(np.iinfo(np.int32).max))


@contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Let torch draw from new generators with this seed in the block, in this thread only.

    Weight initialisation and dropout have no generator argument; a mode of torch gives them ours.
    The global generators are not changed, and other threads do not wait.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.utils import seeded_torch
    >>> with seeded_torch(0, torch.device("cpu")):
    ...     first = torch.rand(2)
    >>> with seeded_torch(0, torch.device("cpu")):
    ...     second = torch.rand(2)
    >>> bool((first == second).all())
    True
    """
    generators = {"cpu": torch.Generator().manual_seed(seed)}
    if device.type == "cuda":
        generators["cuda"] = torch.Generator(device).manual_seed(seed)
    with own_draws(generators):
        yield


@contextmanager
def kept_global_states() -> Iterator[None]:
    """Restore the global generators of Python, numpy and torch after the block.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.utils import kept_global_states
    >>> np.random.seed(0)
    >>> with kept_global_states():
    ...     drawn = np.random.rand()
    >>> drawn == np.random.rand()
    True
    """
    of_python, of_numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)


@contextmanager
def follow_seed() -> Iterator[None]:
    """Let ``torch.manual_seed`` in the block seed the generators of `seeded_torch`."""
    draws = current_draws()
    with nullcontext() if draws is None else draws.watching_seed():
        yield


def torch_generator() -> torch.Generator:
    """Return torch's current generator on the CPU: the global one, or that of a fit."""
    draws = current_draws()
    return torch.default_generator if draws is None else draws.generators["cpu"]


def torch_states() -> dict[str, torch.Tensor]:
    """Return the states of torch's current generators, by type of device."""
    draws = current_draws()
    generators = {"cpu": torch_generator()} if draws is None else draws.generators
    return {kind: generator.get_state() for kind, generator in generators.items()}


def random_states(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Return the states of a generator and of those of the current `seeded_torch`."""
    states = torch_states()
    # The names that checkpoints have.
    return {"generator": generator.get_state(), "torch": states.pop("cpu"), **states}


def restore_random_states(generator: torch.Generator, states: dict[str, torch.Tensor]) -> None:
    """Restore the states returned by `random_states`."""
    generator.set_state(states["generator"])
    torch_generator().set_state(states["torch"])
    draws = current_draws()
    if draws is not None and "cuda" in draws.generators:
        draws.generators["cuda"].set_state(states["cuda"])
