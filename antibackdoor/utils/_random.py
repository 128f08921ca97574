"""Randomness that comes from `random_state` and touches no global generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

from antibackdoor.utils._own_draws import current_draws, own_draws


def draw_seed(random_state: np.random.RandomState) -> int:
    """Draw a seed for one torch generator."""
    return int(random_state.randint(np.iinfo(np.int32).max))


@contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Let torch draw from new generators of this seed in the block, in this thread alone.

    Weight initialisation and dropout take no generator of ours; they get them by a mode of
    torch. The global generators stay as they are, and no other thread waits.
    """
    generators = {"cpu": torch.Generator().manual_seed(seed)}
    if device.type == "cuda":
        generators["cuda"] = torch.Generator(device).manual_seed(seed)
    with own_draws(generators):
        yield


@contextmanager
def follow_seed() -> Iterator[None]:
    """Take ``torch.manual_seed`` in the block for a seed of the generators of `seeded_torch`."""
    draws = current_draws()
    with nullcontext() if draws is None else draws.watching_seed():
        yield


def torch_generator() -> torch.Generator:
    """Return the generator that torch draws from here on the CPU: the global one, or a fit's."""
    draws = current_draws()
    return torch.default_generator if draws is None else draws.generators["cpu"]


def torch_states() -> dict[str, torch.Tensor]:
    """Return the states of all generators that torch draws from here, by type of device."""
    draws = current_draws()
    generators = {"cpu": torch_generator()} if draws is None else draws.generators
    return {kind: generator.get_state() for kind, generator in generators.items()}


def random_states(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Return the states of a generator and of those of the `seeded_torch` this is called in."""
    states = torch_states()
    # The names that checkpoints have.
    return {"generator": generator.get_state(), "torch": states.pop("cpu"), **states}


def restore_random_states(generator: torch.Generator, states: dict[str, torch.Tensor]) -> None:
    """Put the generators back into states of `random_states`."""
    generator.set_state(states["generator"])
    torch_generator().set_state(states["torch"])
    draws = current_draws()
    if draws is not None and "cuda" in draws.generators:
        draws.generators["cuda"].set_state(states["cuda"])
