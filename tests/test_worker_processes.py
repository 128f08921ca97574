"""What needs joblib's own worker processes: they take long to start, so these tests share them.

Where any other process will do, it is forked: see `forked_jobs`.
"""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.callback import ScoringMonitor
from sklearn.model_selection import GridSearchCV
from test_benchmark import FANNING, Constant, figures, quick

from antibackdoor import UndefendedClassifier
from antibackdoor.benchmark import run_benchmark

pytestmark = pytest.mark.slow


class Deadly(Constant):
    """A defence whose process does not survive it, as where memory ends."""

    def fit(self, X, y):
        os.kill(os.getpid(), signal.SIGKILL)


def test_scoring_monitor_in_parallel_grid_search(digits):
    X, y = digits
    rows = np.flatnonzero(y < 4)[:60]
    monitor = ScoringMonitor(scoring="accuracy")
    estimator = UndefendedClassifier(epochs=3, backbone="mlp", random_state=0)
    estimator.set_callbacks(monitor)
    with parallel_config(backend="loky"):
        search = GridSearchCV(estimator, {"learning_rate": [0.01, 0.1]}, cv=2, n_jobs=2)
        search.fit(X[rows], y[rows])
    names = [row["task_name"] for row in monitor.get_logs().data]
    assert names.count("epoch") == 5 * 3
    assert names.count("train") == 5


def test_a_benchmark_has_the_same_rows_though_a_process_dies(tmp_path):
    cells = [quick(seed=seed, defense=f"{FANNING}(label=1)") for seed in range(2)]
    serial = run_benchmark(cells, tmp_path / "serial", threads=1)
    deadly = quick(defense=f"{__name__}.Deadly")
    with parallel_config(backend="loky"):
        *rows, died = run_benchmark([*cells, deadly], tmp_path / "loky", n_jobs=2, threads=1)
    assert [figures(row) for row in rows] == [figures(row) for row in serial]
    assert "TerminatedWorkerError" in died["error"]
    assert died["ca"] is None
