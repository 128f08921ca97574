"""A network whose body works on a share of each batch, beside those of other processes.

The head, and all that an objective makes of features and logits, see the whole batch on every
process. So no objective knows of it: means, shuffles and weights over a batch are those of one
process.
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
from antibackdoor.utils import drawing_on, seeded_torch, torch_generator, torch_states


class Share:
    """Which rows of a batch are this process's.

    Parameters
    ----------
    n_rows : int
        Of the batch, one at least.
    team : Team
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
        """Return this process's rows; where there are none, a row that counts nowhere.

        Modules of users need not take an empty batch.
        """
        return batch[self._start : self._stop] if self.counts else batch[:1]

    def gather(self, mine: torch.Tensor) -> torch.Tensor:
        """Return what all processes made of their rows, in the order of the batch.

        The gradient goes to this process's rows alone, times the number of processes: see
        `backward`.
        """
        mine = mine[: self._stop - self._start]
        if mine.requires_grad:
            mine.register_hook(lambda gradient: gradient * self._team.size)
        # Zeros but for the own rows, added up: that takes shares of any sizes.
        every = mine.new_zeros(self._n_rows, *mine.shape[1:])
        every[self._start : self._stop] = mine.detach()
        self._team.add_up(every)
        return torch.cat([every[: self._start], mine, every[self._stop :]])


class SplitNetwork(Network):
    """A network that shows its body this process's share of each batch.

    Parameters
    ----------
    network : Network
        Whose modules these are: weights and statistics are one.
    team : Team
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
        """Return, for the whole batch, what the body has given for the rows it was shown."""
        return self._share.gather(rows)

    @contextmanager
    def _statistics_of_all(self) -> Iterator[None]:
        """Let batch norm measure the whole batch, here and in the backward pass of it."""
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
        """Let each process draw other dropout masks, and all leave the generators alike.

        A body that draws nothing leaves them as they were: what is drawn later, such as
        the next network's weights, is what one process draws.
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
    """Return the network as an objective is to see it: shared out, where there are several of us.

    Its weights become those of the first process, as they were made by a user's function that
    draws from elsewhere.
    """
    team = current_team()
    if team.size == 1 or not any(True for _ in network.body.parameters()):
        return network
    team.copy_first(network.state_dict().values())
    return SplitNetwork(network, team)


def measures_together(body: nn.Module) -> bool:
    """Tell whether a body, as `split` shows it, waits for other processes in its midst."""
    return current_team().size > 1 and len(_batch_norms(body)) > 0


def backward(value: torch.Tensor, parameters: Iterable[nn.Parameter]) -> None:
    """Compute the gradient of the value minimised, the sum of what the processes have of it.

    What lies behind the features has the whole gradient on every process, of which each gives
    its part; the body has that of its own rows, which `Share.gather` makes up for. Adding
    them all up, to the same bits everywhere, also keeps the weights of the processes one.

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
    """Return what `compute` gives for row numbers, each process computing a share of them.

    Parameters
    ----------
    compute : callable
        Takes row numbers and returns a tensor with a row for each.
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
