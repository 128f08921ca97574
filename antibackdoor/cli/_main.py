"""The command line: parser, errors and exit codes."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TextIO

import torch

from antibackdoor import __version__
from antibackdoor.cli import _bench, _drop, _poison, _scan
from antibackdoor.cli._codes import EPILOG, FAILED, INTERRUPTED, MISUSED, TERMINATED
from antibackdoor.cli._signals import Terminated, stoppable
from antibackdoor.cli._text import note, say

_EXAMPLES = """\
examples:
  antibackdoor scan photos --out scanned
  antibackdoor drop photos decisions.csv --out photos-kept
  antibackdoor poison photos --out poisoned --attack badnets --rate 0.1 --target cat
  antibackdoor bench quick
  antibackdoor scan --help

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``antibackdoor`` with these arguments.

    Parameters
    ----------
    arguments : sequence of str, default=None
        None: those the process was started with.

    Returns
    -------
    int
        Exit code.

    Examples
    --------
    >>> from antibackdoor.cli import main
    >>> main(["drop", "missing", "decisions.csv", "--out", "kept"])  # there is no such folder
    2
    """
    if sys.stderr is None:
        # The error stream was closed before the process began: only the exit code remains.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for good)
    if sys.stdout is None:
        # Otherwise the next file to be opened would become the standard output.
        note("antibackdoor: the standard output is closed: nothing was read or written")
        return FAILED
    words = list(sys.argv[1:] if arguments is None else arguments)
    with stoppable():
        try:
            return _run(words)
        except KeyboardInterrupt as interrupt:
            # Commands that know more about what is kept put it into the interrupt.
            note(f"interrupted: {str(interrupt) or 'nothing was written'}")
            return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED
        except (ValueError, TypeError, FileNotFoundError, ImportError) as error:
            note(f"antibackdoor: {error}")
            return MISUSED
        except (OSError, ArithmeticError, MemoryError, torch.OutOfMemoryError) as error:
            note(f"antibackdoor: {error or type(error).__name__}")
            return FAILED
        finally:
            for stream in (sys.stdout, sys.stderr):
                _settle(stream)


def _run(words: list[str]) -> int:
    """Read the words, and run the command that they name."""
    parsed = _parse(words)
    parsed.words = words
    return parsed.run(parsed)


def _parse(words: list[str]) -> argparse.Namespace:
    """Read the words; what argparse prints goes through `say`, for it overlooks what fails."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            return _parser().parse_args(words)
    finally:
        if printed.getvalue():
            say(printed.getvalue().removesuffix("\n"))


def _settle(stream: TextIO) -> None:
    """Let what cannot be written to a stream not be tried again when Python ends."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="antibackdoor",
        description="Clean classifiers from training data that may hold a backdoor.",
        epilog=_EXAMPLES + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _scan.add_command(commands)
    _drop.add_command(commands)
    _poison.add_command(commands)
    _bench.add_command(commands)
    return parser
