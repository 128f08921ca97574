"""Handling of Ctrl-C and SIGTERM: blocks that they stop, and blocks that they wait for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from antibackdoor._start import stop_at_once


class Terminated(KeyboardInterrupt):
    """SIGTERM came, which stops a command as Ctrl-C does."""


class _Held:
    """The number of `undisturbed` blocks, and the signal that came meanwhile."""

    depth = 0
    waiting: int | None = None


_held = _Held()


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt and `Terminated` within the block.

    A signal that the process was started to ignore stays ignored. Only the main thread can
    handle signals: in any other the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    before = {
        number: handler
        for number in numbers
        if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }
    try:
        for number in before:
            signal.signal(number, _on_signal)
        yield
    finally:
        for number, handler in before.items():
            # That of the time before the command was loaded would not be true any more.
            signal.signal(number, signal.SIG_DFL if handler is stop_at_once else handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let a signal of `stoppable` wait for the end of the block, and stop the command then."""
    _held.depth += 1
    try:
        yield
    finally:
        _held.depth -= 1
        if _held.depth == 0 and _held.waiting is not None:
            number, _held.waiting = _held.waiting, None
            raise _stop(number)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _held.depth == 0:
        raise _stop(number)
    _held.waiting = number


def _stop(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
