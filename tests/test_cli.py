"""The command line, mostly as a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from antibackdoor import __version__
from antibackdoor.cli import main

SMALL = ["bench", "quick", "--attacks", "badnets", "--defenses", "undefended"]
SMALL += ["--n-train", "200", "--schedule", "0.05", "--n-jobs", "1"]


def command(*words):
    return [sys.executable, "-m", "antibackdoor", *map(str, words)]


def figures(out):
    rows = map(json.loads, (out / "rows.jsonl").read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["bench"], ["bench", "no-such"], ["bench", "quick", "--x"]])
def test_words_that_mean_nothing(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: antibackdoor" in capsys.readouterr().err


@pytest.mark.parametrize("word", [None, "scan", "drop", "poison", "bench"])
def test_help_fits_the_screen_and_explains_every_option(word, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        main(["--help"] if word is None else [word, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 100] == []
    for number, line in enumerate(lines):
        if line.startswith("  --"):
            # Explained on its own line, or on the next.
            assert "  " in line.strip() or lines[number + 1].startswith(" " * 10), line


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    told = capsys.readouterr().out
    assert "antibackdoor bench quick" in told
    assert "cbd-adaptive" in told


def test_bench(tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*SMALL, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"\[1/1\] digits badnets 0.1 undefended auto seed 0: CA \d", told)
    assert "| badnets" in told
    names = {path.name for path in out.iterdir()}
    assert names >= {"rows.jsonl", "table.md", "table.csv", "table.tex", "tradeoff.png"}


def test_dry_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "quick", "--dry-run"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert re.match(r"28 cells: about [\d.]+ (s|min|h) with \d+ at a time", told[-1])
    assert len(told) == 29
    assert list(tmp_path.iterdir()) == []


def test_dry_run_without_the_data(tmp_path, capsys):
    words = ["bench", "cbd-adaptive", "--data-root", str(tmp_path), "--dry-run"]
    assert main(words) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 7
    assert told[0] == "cifar10 badnets 0.1 undefended wrn-16-1 seed 0"
    assert "no estimate" in told[-1]
    assert "--download" in told[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attacks", "bandits"], "attack='bandits'"),
        (["--defenses", "hope"], "defense='hope'"),
        (["--rates", "1.5"], "poison_rate=1.5"),
        (["--threads", "0"], "--threads 0"),
        (["--datasets", "no-such"], "no-such"),
        (["--datasets", "missing.npz"], "missing.npz"),
        (["--datasets", "cifar10", "--data-root", "."], "--download"),
    ],
)
def test_what_cannot_be_used(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_in_an_npz_is_refused(tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    path = tmp_path / "evil.npz"
    np.savez(path, X=np.array([Evil()] * 4, dtype=object), y=np.arange(4) % 2)
    assert main([*SMALL, "--datasets", str(path)]) == 2
    assert "X" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_a_failed_cell_is_said(tmp_path, capsys):
    # One row of a hundred classes: no trigger fits, no class can be split.
    words = [*SMALL, "--attacks", "badnets(target_label=77)", "--out", str(tmp_path / "out")]
    assert main(words) == 1
    assert "target_label" in capsys.readouterr().err


def test_a_directory_that_is_a_file(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert main([*SMALL, "--out", str(tmp_path / "out")]) != 0
    assert "out" in capsys.readouterr().err


def test_a_full_disk(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("antibackdoor.utils._files.os.fsync", full)
    assert main([*SMALL, "--out", str(tmp_path / "out")]) == 1
    assert "No space left" in capsys.readouterr().err
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_interrupted(tmp_path):
    words = [*SMALL, "--seeds", *range(50), "--out", tmp_path / "out"]
    with subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()  # a cell is done
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in told
    assert "Traceback" not in told
    assert len(list((tmp_path / "out" / "cells").glob("*.json"))) >= 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_killed_run_ends_like_an_unbroken_one(tmp_path):
    """Once here; twenty times, at random moments, in benchmarks/killed.py."""
    words = [*SMALL, "--seeds", *map(str, range(6)), "--out"]
    killed, unbroken = str(tmp_path / "killed"), str(tmp_path / "unbroken")

    def count_cells():
        return len(list((tmp_path / "killed" / "cells").glob("*.json")))

    process = multiprocessing.get_context("fork").Process(target=main, args=([*words, killed],))
    process.start()
    while process.is_alive() and not count_cells():
        time.sleep(0.005)
    process.kill()  # a cell is done, and the next one begun
    process.join()
    assert 1 <= count_cells() < 6
    assert main([*words, killed]) == main([*words, unbroken]) == 0
    assert figures(tmp_path / "killed") == figures(tmp_path / "unbroken")
