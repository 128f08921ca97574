"""What the benchmarks have in common: the data, their rows, and where a figure comes from."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import sklearn
import torch
from torchvision.datasets import CIFAR10

from antibackdoor.benchmark import RowFormat, read_rows
from antibackdoor.benchmark._rows import is_half

#: Columns of `provenance`.
PROVENANCE = ("commit", "versions", "machine")


def load_cifar10(
    data_root: str, n_train: int = 5_000
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return X, X_test, y, y_test: the first training images and all test images."""
    train, test = CIFAR10(data_root, train=True), CIFAR10(data_root, train=False)
    y, y_test = np.asarray(train.targets), np.asarray(test.targets)
    return train.data[:n_train], test.data, y[:n_train], y_test


def provenance() -> dict[str, Any]:
    """Return commit, versions and machine. Call it first: of the code that has been imported."""
    return {
        "commit": os.environ.get("ANTIBACKDOOR_COMMIT") or _commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} used",
    }


def _commit() -> str:
    """Return the commit that is checked out; a copy without git is told it by the variable."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(
            "git does not know this folder; set ANTIBACKDOOR_COMMIT to the commit that it holds."
        ) from error
    return answer.stdout.strip()


def resume_rows(path: Path, of: RowFormat) -> list[dict[str, Any]]:
    """Return the rows of a file that more are added to; none where it is not there yet.

    Half a row at its end, which a killed run left, is cut off, and said. Any other line that is
    no row is an error, as in `read_rows`.
    """
    if not path.exists():
        return []
    with path.open("r+b") as file:
        _mend_end(file, path)
        return read_rows(path, of)


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a file, which is made where it is not there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with path.open("r+b") as file:
        _mend_end(file, path)
        file.write(json.dumps(row).encode() + b"\n")


def _mend_end(file: BinaryIO, path: Path) -> None:
    """Go to the end of a file and let it be that of a line; others that add to it wait."""
    # Shards add to one file: half a row may be one that another process is just writing.
    fcntl.flock(file, fcntl.LOCK_EX)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 1, 0))
    if file.read() in (b"", b"\n"):
        return
    file.seek(0)
    last = file.read().rpartition(b"\n")[2]
    if not is_half(last):
        file.write(b"\n")
        return
    file.seek(file.truncate(size - len(last)))
    told = f"{path}: half a row, which a killed run left, was cut off: {last[:60]!r}"
    print(told, file=sys.stderr, flush=True)
