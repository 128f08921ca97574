"""The command line: what its words are, and how it ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from antibackdoor import __version__
from antibackdoor.cli import _bench, _poison, _scan
from antibackdoor.cli._codes import EPILOG, FAILED, INTERRUPTED, MISUSED
from antibackdoor.cli._text import say

_EXAMPLES = """\
examples:
  antibackdoor scan photos --out scanned
  antibackdoor poison photos --out poisoned --attack badnets --rate 0.1 --target cat
  antibackdoor bench quick
  antibackdoor scan --help

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Parameters
    ----------
    arguments : sequence of str, default=None
        None: those the process was started with.

    Returns
    -------
    int
        Exit code.
    """
    parser = argparse.ArgumentParser(
        prog="antibackdoor",
        description="Clean classifiers from training data that may hold a backdoor.",
        epilog=_EXAMPLES + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _scan.add_command(commands)
    _poison.add_command(commands)
    _bench.add_command(commands)
    words = list(sys.argv[1:] if arguments is None else arguments)
    parsed = parser.parse_args(words)
    parsed.words = words
    try:
        return parsed.run(parsed)
    except KeyboardInterrupt as interrupt:
        # A command that can say more than this about what is kept says it.
        what = str(interrupt) or "what was finished is kept, the same command goes on"
        say(f"interrupted: {what}", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, TypeError, FileNotFoundError, ImportError) as error:
        say(f"antibackdoor: {error}", file=sys.stderr)
        return MISUSED
    except (OSError, ArithmeticError, MemoryError, torch.OutOfMemoryError) as error:
        say(f"antibackdoor: {error or type(error).__name__}", file=sys.stderr)
        return FAILED
