"""benchmarks/gpu.py runs without a GPU: the minutes of one are no place to find a mistake."""

import importlib
import sys
from pathlib import Path

import pytest

from antibackdoor.benchmark import read_rows

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    if sys.platform == "win32":
        pytest.skip("locks files as Unix does")
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("ANTIBACKDOOR_COMMIT", "abc")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which a module that it imports sets
    return importlib.import_module("gpu")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "gpu.jsonl"


def run(gpu, out, *words):
    gpu.main(["--device", "cpu", "--tiny", "--out", str(out), *words])
    return {row["measurement"]: row for row in read_rows(out, gpu.ROWS)} if out.exists() else {}


@pytest.mark.parametrize("tiny", [False, True])
def test_what_is_measured(gpu, tiny):
    size = gpu.TINY if tiny else gpu.Size()
    names = list(gpu.measurements(size, "cpu", "data", "memory"))
    first = ["correctness/epoch", "correctness/search", *(f"speed/{b}" for b in size.backbones)]
    assert names[: len(first) + 1] == [*first, f"abl/badnets/0.1/{size.n_train or 'all'}"]
    # Clean data once, each attack at two rates; ABL beside the undefended.
    assert len(names) == len(first) + 2 * (1 + 2 * len(size.attacks))
    assert tiny or "undefended/sig/0.05/all" in names


def test_parts_of_it(gpu, out, monkeypatch):
    """The two that train least; `--tiny` runs all, in a minute or two."""
    some = ("correctness/epoch", "undefended/dot-all-to-all/0.1/300")
    everything = gpu.measurements
    monkeypatch.setattr(
        gpu, "measurements", lambda *told: {name: everything(*told)[name] for name in some}
    )
    rows = run(gpu, out)
    assert tuple(rows) == some
    assert not any(row["error"] or row["gpu"] for row in rows.values())
    epoch, cell = (row["found"] for row in rows.values())
    assert epoch.pop("within 1e-4") is True
    assert len(epoch) == 3
    for compared in epoch.values():
        assert compared["difference"] == 0 < compared["reference"] < 1e-2
    assert 0 < cell["ca"] < 1
    assert cell["tpr"] is None


def test_one_that_fails_stops_no_other(gpu, out, monkeypatch):
    broken = True

    def first():
        if broken:
            raise RuntimeError("out of memory")
        return {"n": 2}

    done = []
    works = {"speed/a": first, "speed/b": lambda: done.append("b") or {"n": 1}}
    monkeypatch.setattr(gpu, "measurements", lambda *_: works)
    rows = run(gpu, out)
    assert "RuntimeError: out of memory" in rows["speed/a"]["error"]
    assert rows["speed/b"]["found"] == {"n": 1}
    broken = False
    works["speed/c"] = lambda: done.append("c") or {"n": 3}
    assert run(gpu, out)["speed/a"]["found"] == {"n": 2}
    assert done == ["b", "c"]  # what is finished is not done again
    *_, last_but_one, last = out.read_text().splitlines()
    assert "speed/c" in last_but_one
    assert "speed/a" in last


def test_the_time_limit(gpu, out, monkeypatch, capsys):
    works = {"speed/a": dict, "speed/b": dict, "abl/c": dict}
    monkeypatch.setattr(gpu, "measurements", lambda *_: works)
    real = gpu.measure
    monkeypatch.setattr(gpu, "measure", lambda work: real(work) | {"wall_seconds": 90.0})
    # As long as the one of its kind: not begun. Another kind may be short.
    assert list(run(gpu, out, "--minutes", "1")) == ["speed/a", "abl/c"]
    assert "speed/b: left out" in capsys.readouterr().out
    assert list(run(gpu, out, "--minutes", "2")) == ["speed/a", "abl/c", "speed/b"]
    assert run(gpu, out.with_name("other.jsonl"), "--minutes", "0") == {}
    gpu.main(["--table", "--out", str(out)])
    assert "speed/b (None): {}" in capsys.readouterr().out
