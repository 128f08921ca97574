"""The quick start does what it says. The other examples run in `make gallery`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

QUICK_START = Path(__file__).parents[1] / "examples" / "plot_quick_start.py"


# As what the pages show it runs in `make docs-test`: it is a minute and a half of training.
@pytest.mark.docs
def test_quick_start(tmp_path, monkeypatch, capsys):
    # In this process: another one would take seconds to import torch again.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(QUICK_START)])
    matplotlib.use("Agg")
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))  # there is no screen
    runpy.run_path(str(QUICK_START), run_name="__main__")
    plt.close("all")
    assert capsys.readouterr().out
    assert (tmp_path / "demo" / "quick_start.png").stat().st_size > 10_000
    check_promises((tmp_path / "demo" / "quick_start.txt").read_text())


def check_promises(table):
    """What `make demo` must show, in per cent."""
    _, *lines = table.splitlines()
    rows = {name: figures for name, *figures in map(str.split, lines)}
    ca, asr, _, recall = (float(figure) for figure in rows["undefended"][:4])
    assert asr >= 90
    for name in ("ABL", "CBD"):
        defended = [float(figure) for figure in rows[name]]
        assert defended[1] <= 5, table
        assert abs(defended[0] - ca) <= 2, table
        assert abs(defended[3] - recall) <= 10, table
        _, precision, found = defended[4:]
        assert precision >= 90, table
        assert found >= 90, table
