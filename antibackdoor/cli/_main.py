"""The command line: what its words are, and how it ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from antibackdoor import __version__
from antibackdoor.cli import _bench

#: Exit codes.
DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

_EPILOG = """\
exit codes:
  0    done
  1    something went wrong on the way, and was said
  2    the command line cannot be used, or what it names cannot
  130  interrupted; what was finished is kept
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
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _bench.add_command(commands)
    parsed = parser.parse_args(arguments)
    try:
        return DONE if parsed.run(parsed) else FAILED
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept, the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, TypeError, FileNotFoundError, ImportError) as error:
        print(f"antibackdoor: {error}", file=sys.stderr)
        return MISUSED
    except OSError as error:
        print(f"antibackdoor: {error}", file=sys.stderr)
        return FAILED
