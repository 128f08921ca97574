"""What the benchmarks have in common: the data, and where a figure comes from."""

from __future__ import annotations

import os
import platform
import subprocess
from typing import Any

import numpy as np
import sklearn
import torch
from torchvision.datasets import CIFAR10


def load_cifar10(
    data_root: str, n_train: int = 5_000
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return X, X_test, y, y_test: the first training images and all test images."""
    train, test = CIFAR10(data_root, train=True), CIFAR10(data_root, train=False)
    y, y_test = np.asarray(train.targets), np.asarray(test.targets)
    return train.data[:n_train], test.data, y[:n_train], y_test


def provenance() -> dict[str, Any]:
    """Return commit, versions and machine. Call it first: of the code that has been imported."""
    answer = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    return {
        "commit": answer.stdout.strip(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} used",
    }
