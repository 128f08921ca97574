"""Checks of command-line arguments, before anything is read or written."""

from __future__ import annotations

import os
from pathlib import Path

# More threads gain nothing, and a system that cannot start them ends the process.
_MOST_THREADS = 256


def expand(word: str, path: str | os.PathLike[str]) -> Path:
    """Return a path from the command line, with ``~`` as the home of its user.

    Parameters
    ----------
    word : str
        What it was given as, for the message.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{word} {os.fspath(path)!r}: there is no such home folder; wanted a path. One that "
            f"begins with ~ itself is written './~...'."
        ) from error


def resolve(word: str, path: str | os.PathLike[str]) -> Path:
    """Return a path from the command line, absolute, with all links followed.

    Raises
    ------
    ValueError
        If there is no such user, or links lead in a circle.
    """
    expanded = expand(word, path)
    try:
        return expanded.resolve()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{word} {os.fspath(path)!r} cannot be followed: {error}") from error


def check_threads(word: str, number: int | None) -> None:
    """See that a number of threads or processes is one that a machine can start."""
    most = max(_MOST_THREADS, os.cpu_count() or 1)
    if number is not None and not 1 <= number <= most:
        raise ValueError(f"{word} {number}: wanted a number from 1 to {most}.")


def check_seed(word: str, number: int) -> None:
    """See that a number seeds numpy and torch."""
    if not 0 <= number < 2**32:
        raise ValueError(
            f"{word} {number} cannot be random_state; wanted a number from 0 to {2**32 - 1}."
        )
