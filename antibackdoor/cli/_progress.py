"""Progress of a scan on the terminal."""

from __future__ import annotations

from antibackdoor.cli._data import Data
from antibackdoor.cli._text import note
from antibackdoor.cli._time import tell_time
from antibackdoor.inspection import FitProgress


class ScanProgress(FitProgress):
    """The progress of a fit, with hints on how to shorten a long scan."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self._data = data

    def tell_estimate(self, seconds: float) -> None:
        """Print the estimated time, and what would make it shorter."""
        for line in tell_time(seconds, self._data):
            note(line)
