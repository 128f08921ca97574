"""Where a figure comes from."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import sklearn
import torch


@cache
def provenance(threads: int | None = None) -> dict[str, Any]:
    """Return commit, versions and machine.

    Parameters
    ----------
    threads : int, default=None
        That a training may use; None: what torch takes by itself.

    Returns
    -------
    dict
        ``"commit"`` is None where the package does not lie in a git checkout, and ends in
        ``+`` where its files differ from the commit.
    """
    return {
        "commit": _commit(),
        "versions": {
            "antibackdoor": version("antibackdoor"),
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "scikit-learn": sklearn.__version__,
            "torch": torch.__version__,
        },
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads() if threads is None else threads,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def _commit() -> str | None:
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return None  # installed; a repository further up would be another one
    answer = _git(package, "rev-parse", "--short", "HEAD")
    if answer is None:
        return None
    return answer + ("+" if _git(package, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no git on this machine, or a checkout of another user
    return answer.stdout.strip()
