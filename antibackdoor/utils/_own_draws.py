"""Random numbers of torch from generators of ours, in one thread, in place of the global ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode,
    _pop_mode,
    _push_mode,
)


class OwnDraws(TorchDispatchMode):
    """Gives our generators to the functions of torch that are given none.

    Weight initialisation and dropout draw from torch's global generators, which all threads of
    the process share. With this mode on, which is a thread's own, they draw from ours. The same
    seed gives the same numbers as it does in a global generator.

    Parameters
    ----------
    generators : dict of str to torch.Generator
        By type of device.
    """

    def __init__(self, generators: dict[str, torch.Generator]) -> None:
        super().__init__()
        self._generators = generators
        self._is_lent = False
        # States of the global generators before a function of the user's, while it runs.
        self._watched: dict[str, torch.Tensor] | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True would import all of torch's compiler, which takes seconds. Nothing is compiled here.
        return False

    @property
    def generators(self) -> dict[str, torch.Generator]:
        """The generators that are drawn from now, by type of device."""
        return self._globals() if self._is_lent else self._generators

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        device = _device_of(args, kwargs)
        generator = self._generators.get(device)
        if generator is None or self._is_lent or _is_settled(func, args, kwargs):
            return func(*args, **kwargs)
        self._follow_seed()
        takes_generator = _with_generator(func)
        if takes_generator is None or device != "cpu":
            # On CUDA a kernel may draw behind a function whose arguments do not tell.
            with self.lent():
                return func(*args, **kwargs)
        return takes_generator(**{**_given(func, args, kwargs), "generator": generator})

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Put the states of our generators into the global ones for the block, and take them back.

        For what cannot be given a generator. Others must wait for the block's end, so that it
        is to be a short one.
        """
        if self._is_lent:
            yield
            return
        with _LOAN.lock:
            before = _states(self._globals())
            _LOAN.begin(before)
            _set_states(self._globals(), _states(self._generators))
            self._is_lent = True
            try:
                yield
            finally:
                self._is_lent = False
                _set_states(self._generators, _states(self._globals()))
                _set_states(self._globals(), before)
                _LOAN.end()

    @contextmanager
    def watching_seed(self) -> Iterator[None]:
        """Take a seed that a function of the user's gives to torch in the block for ours.

        ``torch.manual_seed`` in a function that makes a network says which weights it has.
        The global generators are put back. Two such blocks in threads would take each other's
        seed, so one waits for the other; a seed that the program sets in another thread at that
        very time is taken too.
        """
        with _LOAN.watch:
            self._watched = _states(self._globals())
            try:
                yield
            finally:
                self._follow_seed()
                self._watched = None

    def _follow_seed(self) -> None:
        if self._watched is None:
            return
        seed = torch.default_generator.initial_seed()
        now = torch.default_generator.get_state()
        seeded = torch.Generator().manual_seed(seed).get_state()
        # All else that draws in this thread draws from ours, so only a seed can have done it.
        if torch.equal(now, self._watched["cpu"]) or not torch.equal(now, seeded):
            return
        for generator in self._generators.values():
            generator.manual_seed(seed)
        _set_states(self._globals(), self._watched)

    def _globals(self) -> dict[str, torch.Generator]:
        return {
            kind: global_generator(generator.device) for kind, generator in self._generators.items()
        }


class _Loan:
    """The global generators while they hold states of ours; a forked process gets them back."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        #: Held where functions of users may seed the global generators.
        self.watch = threading.RLock()
        self._loans: list[dict[str, torch.Tensor]] = []
        self._thread = 0

    def begin(self, before: dict[str, torch.Tensor]) -> None:
        self._loans.append(before)
        self._thread = threading.get_ident()

    def end(self) -> None:
        self._loans.pop()

    def after_fork(self) -> None:
        # The thread that would free a lock and take the states back is not in the child; one
        # that is inside a block leaves it in the child too, by the lock that it has there.
        self.watch = threading.RLock()
        if self._loans and self._thread == threading.get_ident():
            return
        self.lock = threading.RLock()
        if self._loans:
            torch.default_generator.set_state(self._loans[0]["cpu"])
            self._loans.clear()


_LOAN = _Loan()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_LOAN.after_fork)

_current: ContextVar[OwnDraws | None] = ContextVar("_current", default=None)


def current_draws() -> OwnDraws | None:
    """Return the innermost `own_draws` that this is called in, if any."""
    return _current.get()


@contextmanager
def own_draws(generators: dict[str, torch.Generator]) -> Iterator[None]:
    """Let torch draw from generators of ours in the block, in this thread alone."""
    mode = OwnDraws(generators)
    token = _current.set(mode)
    # Entered as a context, a mode also sets flags of the process, which threads that overlap
    # would leave set.
    _push_mode(mode)
    try:
        yield
    finally:
        _pop_mode()
        _current.reset(token)


@contextmanager
def drawing_nothing() -> Iterator[None]:
    """Turn `own_draws` off for a block that draws no random numbers, to save time."""
    mode = _current.get()
    if mode is None or _get_current_dispatch_mode() is not mode:
        yield
        return
    _pop_mode()
    try:
        yield
    finally:
        _push_mode(mode)


@contextmanager
def drawing_on(device: torch.device) -> Iterator[None]:
    """Draw from the generators of `own_draws` in the block, also inside `drawing_nothing`.

    On CUDA, compiled or fused kernels always draw from the global generator. So the block borrows
    it, and another fit that draws there has to wait. On a CPU this is not needed.
    """
    mode = _current.get()
    if mode is None or (device.type == "cpu" and _get_current_dispatch_mode() is mode):
        yield
    elif device.type == "cpu":
        _push_mode(mode)
        try:
            yield
        finally:
            _pop_mode()
    else:
        with drawing_nothing(), mode.lent():
            yield


def global_generator(device: torch.device) -> torch.Generator:
    """Return the generator of a device that all threads share."""
    if device.type == "cpu":
        return torch.default_generator
    torch.cuda.init()
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[index]


def _states(generators: dict[str, torch.Generator]) -> dict[str, torch.Tensor]:
    return {kind: generator.get_state() for kind, generator in generators.items()}


def _set_states(generators: dict[str, torch.Generator], states: dict[str, torch.Tensor]) -> None:
    for kind, generator in generators.items():
        generator.set_state(states[kind])


def _device_of(args: Any, kwargs: dict[str, Any]) -> str:
    """Return the type of the device that a function of torch works on."""
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"]).type
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            return value.device.type
    return "cpu"


def _is_settled(func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Tell whether a call has a generator, or nothing to draw."""
    given = _given(func, args, kwargs)
    return given.get("generator") is not None or (
        "dropout_p" in _names(func) and given.get("dropout_p", 0.0) == 0.0
    )


def _given(func: Any, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return all arguments of a call by their names."""
    return {**dict(zip(_names(func), args, strict=False)), **kwargs}


@cache
def _names(func: Any) -> tuple[str, ...]:
    return tuple(argument.name for argument in func._schema.arguments)


@cache
def _with_generator(func: Any) -> Any:
    """Return the form of a function that takes a generator, or None if there is none."""
    if "generator" in _names(func):
        return func

    def arguments(form: Any) -> list[tuple[str, str]]:
        every = [(argument.name, str(argument.type)) for argument in form._schema.arguments]
        return [argument for argument in every if argument[0] != "generator"]

    forms = (getattr(func.overloadpacket, name) for name in func.overloadpacket.overloads())
    return next(
        (
            form
            for form in forms
            if "generator" in _names(form) and arguments(form) == arguments(func)
        ),
        None,
    )
