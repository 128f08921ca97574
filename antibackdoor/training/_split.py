"""A network whose body computes a share of each batch, in parallel with other processes.

The head, and everything that an objective computes from features and logits, use the whole batch on
every process. So objectives need not know about it: means, shuffles and weights over a batch are
those of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from antibackdoor.backbones import Network
from antibackdoor.training._batch_norm import batch_norm
from antibackdoor.training._draws import draws_nothing
from antibackdoor.training._parallel import Team, current_team
from antibackdoor.utils import seeded_torch
from antibackdoor.utils._own_draws import drawing_on
from antibackdoor.utils._random import torch_generator, torch_states


class Share:
    """The rows of a batch that this process computes.

    Parameters
    ----------
    n_rows : int
        Rows of the batch, at least one.
    """

    def __init__(self, n_rows: int, team: Team) -> None:
        self._n_rows = n_rows
        self._team = team
        self._start = n_rows * team.rank // team.size
        self._stop = n_rows * (team.rank + 1) // team.size

    @property
    def counts(self) -> bool:
        """Whether it has rows. With fewer rows than processes, some processes get none."""
        return self._stop > self._start

    def take(self, batch: torch.Tensor) -> torch.Tensor:
        """Return this process's rows; if there are none, a row that is not counted.

        Modules of users need not accept an empty batch.
        """
        return batch[self._start : self._stop] if self.counts else batch[:1]

    def gather(self, mine: torch.Tensor) -> torch.Tensor:
        """Return the results of all processes for their rows, in the order of the batch.

        The gradient goes only to this process's rows, times the number of processes: see
        `backward`.
        """
        mine = mine[: self._stop - self._start]
        if mine.requires_grad:
            mine.register_hook(lambda gradient: gradient * self._team.size)
        # Zeros except for its own rows, then a sum: this works for shares of any size.
        every = mine.new_zeros(self._n_rows, *mine.shape[1:])
        every[self._start : self._stop] = mine.detach()
        self._team.add_up(every)
        return torch.cat([every[: self._start], mine, every[self._stop :]])


class SplitNetwork(Network):
    """A network whose body gets only this process's share of each batch.

    Parameters
    ----------
    network : Network
        The network; weights and statistics are shared with it.
    """

    def __init__(self, network: Network, team: Team) -> None:
        super().__init__(network.standardise, network.body, network.head)
        self._team = team
        self._share = Share(1, team)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of the whole batch, shape (n, n_features)."""
        self._share = Share(len(x), self._team)
        with self._noise_of_its_own(x.device), self._statistics_of_all():
            mine = self.body(self.standardise(self._share.take(x)))
        return self.gathered(mine)

    def gathered(self, rows: torch.Tensor) -> torch.Tensor:
        """Return, for the whole batch, values that the body gave for its share of the rows."""
        return self._share.gather(rows)

    @contextmanager
    def _statistics_of_all(self) -> Iterator[None]:
        """Let batch norm use the whole batch, in the forward and the backward pass."""
        layers = _batch_norms(self.body)
        try:
            for layer in layers:
                # In the instance, over the method of the class.
                layer.forward = partial(  # type: ignore[method-assign]
                    batch_norm, layer, self._team, self._share.counts
                )
            yield
        finally:
            for layer in layers:
                vars(layer).pop("forward", None)

    @contextmanager
    def _noise_of_its_own(self, device: torch.device) -> Iterator[None]:
        """Let each process draw different dropout masks, but leave the generators equal.

        If the body draws nothing, the generators do not change. Later draws, such as the next
        network's weights, are then those of a single process.
        """
        if draws_nothing(self.body):
            yield
            return
        generator = torch_generator()
        before = generator.get_state()
        seed = int(torch.randint(2**31, (), generator=generator))
        after = generator.get_state()
        try:
            with seeded_torch(seed + self._team.rank, device), drawing_on(device):
                start = torch_states()
                yield
                drawn = any(
                    not torch.equal(now, start[kind]) for kind, now in torch_states().items()
                )
        finally:
            generator.set_state(before)
        if drawn:
            generator.set_state(after)


def split(network: Network) -> Network:
    """Return the network for an objective: divided among the processes, if there are several.

    Its weights become those of the first process, since a user's function may have drawn them from
    another generator.
    """
    team = current_team()
    if team.size == 1 or not any(True for _ in network.body.parameters()):
        return network
    team.copy_first(network.state_dict().values())
    return SplitNetwork(network, team)


def measures_together(body: nn.Module) -> bool:
    """Return whether a body, after `split`, waits for other processes in its forward pass."""
    return current_team().size > 1 and len(_batch_norms(body)) > 0


def backward(value: torch.Tensor, parameters: Iterable[nn.Parameter]) -> None:
    """Compute the gradient of the objective, as the sum over the processes.

    Layers after the features have the whole gradient on every process; each contributes its part
    of it. The body has the gradient of its own rows, which `Share.gather` has scaled accordingly.
    The sum is the same on every process, to the bit, and so keeps the weights equal.

    Parameters
    ----------
    value : torch.Tensor
        A scalar, equal on all processes.
    parameters : iterable of torch.nn.Parameter
        Those that are moved.
    """
    team = current_team()
    if team.size == 1:
        value.backward()
        return
    (value / team.size).backward()
    gradients = [weights.grad for weights in parameters if weights.grad is not None]
    total = team.add_up(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    for gradient, part in zip(
        gradients, total.split([gradient.numel() for gradient in gradients]), strict=True
    ):
        gradient.copy_(part.view_as(gradient))


def by_rows(compute: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """Return the results of `compute` for row indices; each process computes a share.

    Parameters
    ----------
    compute : callable
        Takes row indices and returns a tensor with one row for each.
    rows : torch.Tensor of shape (n_rows,), int64

    Returns
    -------
    torch.Tensor of shape (n_rows, ...)
    """
    team = current_team()
    if team.size == 1 or len(rows) < team.size:
        return compute(rows)
    share = Share(len(rows), team)
    return share.gather(compute(share.take(rows)))


def _batch_norms(body: nn.Module) -> list[_BatchNorm]:
    return [layer for layer in body.modules() if isinstance(layer, _BatchNorm)]
