"""Ctrl-C and SIGTERM while the command `antibackdoor` is still being loaded, which takes seconds.

Imported before everything else. A program that imports the package keeps its own signals.
"""

import os
import signal
import sys
from types import FrameType


def stop_at_once(number: int, frame: FrameType | None) -> None:
    """End the process: it has not come so far as to have written anything."""
    os.write(2, b"interrupted: nothing was written\n")
    os._exit(128 + number)


def _is_command() -> bool:
    words = sys.orig_argv[1:3]
    return words == ["-m", "antibackdoor"] or os.path.basename("".join(words[:1])) == "antibackdoor"


if _is_command():
    for _number, _usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        if signal.getsignal(_number) == _usual:
            signal.signal(_number, stop_at_once)
