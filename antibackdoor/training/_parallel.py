"""One fit by several processes, as torchrun starts them: who they are, what they tell each other.

Every process runs the same fit on the same data from the same seeds, so that all but the network
comes out equal on each by itself; `_split.py` shares the network's work out.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from joblib.parallel import get_active_backend

Answer = TypeVar("Answer")

#: How long a process waits for one that lives and does not come. It may be writing, or in a
#: callback of its own; one that has ended is noticed at once.
PATIENCE = timedelta(minutes=30)

#: What torchrun, and whoever does its work, tells a process.
_TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Team:
    """The processes of a fit; without arguments, this one alone, which nothing below waits for.

    Parameters
    ----------
    rank : int, default=0
        Number of this process.
    size : int, default=1
        How many there are.
    tensors : torch.distributed.ProcessGroup, default=None
        For tensors on the device of the fit.
    objects : torch.distributed.ProcessGroup, default=None
        For all else; on the CPU.
    """

    rank: int = 0
    size: int = 1
    tensors: dist.ProcessGroup | None = None
    objects: dist.ProcessGroup | None = None

    @property
    def groups(self) -> list[dist.ProcessGroup]:
        """The connections, each once."""
        groups = dict.fromkeys((self.tensors, self.objects))
        return [group for group in groups if group is not None]

    def exchange(self, said: Any) -> list[Any]:
        """Return what each process has said, in the order of their ranks."""
        if self.size == 1:
            return [said]
        heard: list[Any] = [None] * self.size
        with _connected():
            dist.all_gather_object(heard, said, group=self.objects)
        return heard

    def from_first(self, compute: Callable[[], Answer]) -> Answer:
        """Return, or raise, on every process what `compute` does on the first, which runs it alone.

        Parameters
        ----------
        compute : callable
            Returns what can be pickled.
        """
        if self.size == 1:
            return compute()
        said: list[Any] = [None, None]
        if self.rank == 0:
            try:
                with alone():
                    said[0] = compute()
            except Exception as error:  # raised below, on every process
                said[1] = error
        with _connected():
            dist.broadcast_object_list(said, src=0, group=self.objects)
        if said[1] is not None:
            raise said[1]
        return said[0]

    def add_up(self, tensor: torch.Tensor) -> torch.Tensor:
        """Put the sum over all processes into a tensor, to the same bits on each; return it."""
        if self.size > 1:
            with _connected():
                dist.all_reduce(tensor, group=self.tensors)
        return tensor

    @torch.no_grad()
    def copy_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Put into tensors, on every process, what those of the first hold."""
        if self.size > 1:
            with _connected():
                for tensor in tensors:
                    held = tensor.contiguous()
                    dist.broadcast(held, src=0, group=self.tensors)
                    tensor.copy_(held)


_team: ContextVar[Team | None] = ContextVar("_team", default=None)


def current_team() -> Team:
    """Return the processes of the fit that this is called in, or this one alone."""
    return _team.get() or Team()


@contextmanager
def alone() -> Iterator[None]:
    """Keep to this process inside the block, fits included."""
    before = _team.set(Team())
    try:
        yield
    finally:
        _team.reset(before)


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """Let the fit in the block be one of all processes that torchrun has started, if it has.

    Each fit has connections of its own, closed behind it: a process that leaves the block by an
    error ends the fit of the others too, and the next begins with new ones.

    Parameters
    ----------
    device : torch.device
        Of this process. On CUDA each needs one of its own.

    Yields
    ------
    Team
        This process alone, where nobody else fits along: without torchrun, inside another fit, in
        a thread, in a worker of joblib.

    Raises
    ------
    RuntimeError
        If another process has ended or cannot be reached, or, inside the block, if one fails.
    """
    if not _may_join():
        with alone():
            yield Team()
        return
    _begin_processes()
    team = _connect(device)
    before = _team.set(team)
    try:
        yield team
    except BaseException:
        # The others wait for this process, and are told by the loss of the connection.
        for group in team.groups:
            group.abort()
        raise
    finally:
        _team.reset(before)
        for group in team.groups:
            dist.destroy_process_group(group)


def check_same(told: dict[str, Any]) -> None:
    """Refuse a fit that the processes were given different things for.

    Parameters
    ----------
    told : dict of str to object
        What each was given: text and numbers, or dicts and lists of them.

    Raises
    ------
    ValueError
        On every process, if one has something else than the first.
    """
    first, *others = current_team().exchange(told)
    for rank, other in enumerate(others, start=1):
        differing = [name for name in first if other.get(name) != first[name]]
        if differing:
            raise ValueError(
                f"the processes of a fit must all be given the same, but process {rank} was given "
                f"other {', '.join(differing)} than process 0. Draw and shuffle with a fixed seed."
            )


def _may_join() -> bool:
    if not dist.is_available() or _team.get() is not None:
        return False
    # The order of fits in threads is nobody's, and the processes must keep to one. What a search
    # hands out to workers of joblib is for one worker; they inherit what torchrun has set.
    if threading.current_thread() is not threading.main_thread():
        return False
    if (get_active_backend()[0].nesting_level or 0) > 0:
        return False
    if dist.is_initialized():
        return dist.get_world_size() > 1
    child = multiprocessing.parent_process() is not None
    told = all(os.environ.get(name) for name in _TOLD)
    return told and not child and int(os.environ["WORLD_SIZE"]) > 1


def _begin_processes() -> None:
    """Meet the other processes, where the user's program has not done so."""
    if dist.is_initialized():
        return
    with _connected():
        # The connections of a fit are its own; these only lead to them.
        dist.init_process_group("gloo", timeout=PATIENCE)
    atexit.register(_end_processes)


def _end_processes() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _connect(device: torch.device) -> Team:
    with _connected():
        if dist.get_backend() == "gloo":
            # Finds out at once about a process that has ended; to wait for it takes long.
            dist.all_reduce(torch.zeros(1))
        objects = tensors = _new_group("gloo")
        if device.type == "cuda":
            tensors = _new_group("nccl")
    return Team(dist.get_rank(), dist.get_world_size(), tensors, objects)


def _new_group(backend: str) -> dist.ProcessGroup:
    group = dist.new_group(backend=backend, timeout=PATIENCE)
    assert isinstance(group, dist.ProcessGroup)  # all processes are in it
    return group


@contextmanager
def _connected() -> Iterator[None]:
    """Say what it means when torch can no longer reach another process."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            f"another process of this fit has failed, ended or not come within "
            f"{PATIENCE.total_seconds():.0f} s; what it says itself tells why. This fit ends too. "
            f"torch says: {error}"
        ) from error
