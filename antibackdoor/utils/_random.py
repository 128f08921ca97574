"""Randomness that comes from `random_state` and touches no global generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import numpy as np
import torch

#: Two fits in threads would draw from each other's seed, and the last to end would put back
#: the state that the other had set.
_ONE_BLOCK_AT_A_TIME = RLock()


def draw_seed(random_state: np.random.RandomState) -> int:
    """Draw a seed for one torch generator."""
    return int(random_state.randint(np.iinfo(np.int32).max))


@contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them after it.

    Weight initialisation and dropout draw from the global generators and take
    no generator of ours, so these are lent to the block. All threads of a process share
    them: one block waits for another's end.
    """
    on_gpu = device.type == "cuda"
    with _ONE_BLOCK_AT_A_TIME, torch.random.fork_rng(devices=[device] if on_gpu else []):
        # torch.manual_seed would seed the generators of other devices too, which are
        # not put back.
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def random_states(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Return the states of a generator and of torch's global ones that `seeded_torch` lends."""
    states = {"generator": generator.get_state(), "torch": torch.default_generator.get_state()}
    if generator.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(generator.device)
    return states


def restore_random_states(generator: torch.Generator, states: dict[str, torch.Tensor]) -> None:
    """Put the generators back into states of `random_states`."""
    generator.set_state(states["generator"])
    torch.default_generator.set_state(states["torch"])
    if generator.device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], generator.device)
