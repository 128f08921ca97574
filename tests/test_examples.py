"""The examples run to their end, and the quick start writes what it says."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import matplotlib
import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example, tmp_path, monkeypatch, capsys):
    # In this process: another one would take seconds to import torch again.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(example)])
    matplotlib.use("Agg")
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out
    if example.stem == "plot_quick_start":
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


def test_there_are_examples():
    assert len(EXAMPLES) >= 4
