"""Settings and versions of a scan, for its log and its page."""

from __future__ import annotations

import argparse
import platform
import shlex
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antibackdoor.cli._data import Data
from antibackdoor.cli._text import printable


def tell_shortened(classifier: Any, arguments: argparse.Namespace) -> list[str]:
    """Return a caveat if the epochs differ from those that the search was measured with."""
    if arguments.epochs_scale == 1 or np.isnan(classifier.isolate_pvalue_):
        return []
    return [
        f"The search was measured at --epochs-scale 1, not at {arguments.epochs_scale:g}: its "
        f"results are less reliable."
    ]


def tell_facts(arguments: argparse.Namespace) -> dict[str, str]:
    """Return how a scan was made, for the page: names and values."""
    return {
        "Data": " ".join(str(Path(path).absolute()) for path in arguments.data),
        "Command": _command(arguments),
        "Finished": datetime.now().astimezone().isoformat(" ", timespec="minutes"),
        "Versions": _versions(),
    }


def _command(arguments: argparse.Namespace) -> str:
    return f"antibackdoor {shlex.join(arguments.words)}"


def _versions() -> str:
    names = ("antibackdoor", "torch", "scikit-learn", "numpy", "pillow")
    told = ", ".join(f"{name} {version(name)}" for name in names)
    return f"Python {platform.python_version()}, {told}"


def tell_settings(arguments: argparse.Namespace) -> list[str]:
    """Return the first lines of the log: when, by which command, with what."""
    return [
        f"{datetime.now().astimezone().isoformat(timespec='seconds')} "
        f"{printable(_command(arguments))}",
        f"versions: {_versions()}",
        f"threads: {arguments.threads or torch.get_num_threads()}",
    ]


def tell_notes(data: Data) -> list[str]:
    """Return a line for each file that was skipped or is not as it was."""
    return [f"note: {printable(name)}: {printable(why)}" for name, why in data.notes]


def tell_times(classifier: Any, seconds: float) -> list[str]:
    """Return lines on the seconds of each phase, and of this run."""
    spent: dict[str, float] = {}
    for row in classifier.history_:
        spent[row["phase"]] = spent.get(row["phase"], 0.0) + row["seconds"]
    phases = ", ".join(f"{phase} {needed:.1f} s" for phase, needed in spent.items())
    return [f"epochs of the phases, all runs together: {phases}", f"this run: {seconds:.1f} s"]
