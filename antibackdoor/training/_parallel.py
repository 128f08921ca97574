"""One fit by several processes, started by torchrun: their team and communication.

Every process runs the same fit on the same data with the same seeds. So everything except the
work of the network comes out equal on each; `_split.py` divides the work of the network.
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

#: How long a process waits for another that is alive but late, such as in a callback of its own. A
#: process that has ended is noticed at once.
PATIENCE = timedelta(minutes=30)

#: Environment variables that torchrun sets.
_TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Team:
    """The processes of a fit; without arguments, this one alone.

    Parameters
    ----------
    rank : int, default=0
        Number of this process.
    size : int, default=1
        Number of processes.
    tensors : torch.distributed.ProcessGroup, default=None
        Group for tensors on the device of the fit.
    objects : torch.distributed.ProcessGroup, default=None
        Group for everything else; on the CPU.
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
        """Return the value of each process, in the order of their ranks."""
        if self.size == 1:
            return [said]
        heard: list[Any] = [None] * self.size
        with _connected():
            dist.all_gather_object(heard, said, group=self.objects)
        return heard

    def from_first(self, compute: Callable[[], Answer]) -> Answer:
        """Run `compute` on the first process only; return its result, or raise its error, on all.

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
        """Replace a tensor by its sum over all processes, equal on each to the bit; return it."""
        if self.size > 1:
            with _connected():
                dist.all_reduce(tensor, group=self.tensors)
        return tensor

    @torch.no_grad()
    def copy_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Copy the values of the first process into the tensors of every process."""
        if self.size > 1:
            with _connected():
                for tensor in tensors:
                    held = tensor.contiguous()
                    dist.broadcast(held, src=0, group=self.tensors)
                    tensor.copy_(held)


_team: ContextVar[Team | None] = ContextVar("_team", default=None)


def current_team() -> Team:
    """Return the processes of the current fit; outside of one, this process alone.

    Examples
    --------
    >>> from antibackdoor.training import current_team
    >>> current_team().rank, current_team().size
    (0, 1)
    """
    return _team.get() or Team()


@contextmanager
def alone() -> Iterator[None]:
    """Work without the other processes inside the block, also in fits.

    Examples
    --------
    >>> from antibackdoor.training import alone, current_team
    >>> with alone():
    ...     current_team().size
    1
    """
    before = _team.set(Team())
    try:
        yield
    finally:
        _team.reset(before)


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """Join all processes that torchrun started for the fit in the block.

    Each fit has its own connections, which are closed at the end. If a process leaves the block
    by an error, the fit of the others ends too, and the next fit begins with new connections.

    Parameters
    ----------
    device : torch.device
        Device of this process. On CUDA each process needs its own.

    Yields
    ------
    Team
        This process alone without torchrun, inside another fit, in a thread, and in a worker of
        joblib.

    Raises
    ------
    RuntimeError
        If another process has ended, fails inside the block, or cannot be reached.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.training import joined
    >>> with joined(torch.device("cpu")) as team:
    ...     team.size  # without torchrun
    1
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
        # The others wait for this process; closing the connection tells them.
        for group in team.groups:
            group.abort()
        raise
    finally:
        _team.reset(before)
        for group in team.groups:
            dist.destroy_process_group(group)


def check_same(told: dict[str, Any]) -> None:
    """Refuse a fit whose processes got different data or parameters.

    Parameters
    ----------
    told : dict of str to object
        Data and parameters of this process: text and numbers, or dicts and lists of them.

    Raises
    ------
    ValueError
        On every process, if one differs from the first.
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
