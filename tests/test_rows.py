"""Files of rows: what is no row of the table is named, with file and line, and never left out."""

import importlib
import json
import re
import sys
from operator import itemgetter
from pathlib import Path

import pytest

from antibackdoor.benchmark import TABLE_ROWS, Cell, RowFormat, read_rows, run_benchmark, summarise

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

PLAIN = RowFormat(key=itemgetter("cell"), columns=("cell", "value"), optional=("note",))


def row(cell, value=0.5, **more):
    return {"cell": cell, "value": value, **more}


def lines(*rows):
    return "".join(json.dumps(one) + "\n" for one in rows)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "rows.jsonl"


@pytest.fixture(scope="module")
def common():
    """What the benchmarks have in common."""
    if sys.platform == "win32":
        pytest.skip("locks files as Unix does")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        patch.setenv("OMP_NUM_THREADS", "1")  # which search_trials sets
        yield importlib.import_module("_common")


# Reading


def test_rows_are_read(file):
    rows = [row("a"), row("b", note="late")]
    file.write_text(lines(*rows).rstrip("\n"))  # an editor may leave out the last end of line
    assert read_rows(file, PLAIN) == rows
    file.write_text("")
    assert read_rows(file, PLAIN) == []


@pytest.mark.parametrize(
    ("second", "found"),
    [
        ('{"cell": "b", "val', "half a row"),
        ('{"cell": "b", "val\n', "no JSON"),
        ('{"cell": "b", "val{"cell": "c", "value": 1}\n', "no JSON"),
        ("\n", "no JSON"),
        ("what is this\n", "no JSON"),
        ('{"cell": "b", "value": 1, "value": 2}\n', "twice"),
        ("[" * 100_000 + "\n", "no JSON"),
        ("\xff\n", "no JSON"),
        ("[1, 2]\n", "a list"),
        ('"b"\n', "a text"),
        ("7\n", "a number"),
        ("null\n", "null"),
        (lines(row("b", nothing=0)), "unknown column 'nothing'"),
        ('{"cell": "b"}\n', "no column 'value'"),
        (lines(row(["b"])), r"a cell of \['b'\]"),
        (lines(row("a")), "a second row of the cell 'a'.*line 1 has too"),
        (lines(row("a", versions={"antibackdoor": "9"})), "unknown column 'versions'"),
    ],
)
def test_what_is_no_row_is_named(file, second, found):
    file.write_bytes(lines(row("a")).encode() + second.encode("latin-1"))
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))}, line 2: .*{found}.*; wanted "):
        read_rows(file, PLAIN)


def test_rows_of_two_versions(file):
    versioned = RowFormat(key=itemgetter("cell"), columns=("cell", "versions", "commit"))
    rows = [
        {"cell": number, "commit": "abc", "versions": versions}
        for number, versions in enumerate([{"antibackdoor": "1"}, {"antibackdoor": "2"}, {}])
    ]
    for pair in (rows[:2], rows[:0:-1], rows[1:]):
        file.write_text(lines(*pair))
        with pytest.raises(ValueError, match=r"line 2: a row of antibackdoor .*; wanted rows of"):
            read_rows(file, versioned)


def test_rows_may_supersede_one_another(file):
    newest = RowFormat(key=itemgetter("cell"), columns=("cell", "value"), supersedes=True)
    file.write_text(lines(row("a", 1), row("b", 2), row("a", 3)))
    assert read_rows(file, newest) == [row("a", 3), row("b", 2)]


# Tables


def test_rows_of_a_table(tmp_path, recwarn):
    """What a cell gives, measured or failed, is what a table takes."""
    constant = "sklearn.dummy.DummyClassifier"  # takes no backbone: every cell fails
    cell = Cell("digits", "badnets", 0.1, constant, n_train=300)
    (failed,) = run_benchmark([cell], tmp_path)
    assert failed["error"]
    assert not recwarn.list
    file = tmp_path / "rows.jsonl"
    file.write_text(lines(failed, failed))
    with pytest.raises(ValueError, match="line 2: a second row of the cell"):
        read_rows(file)
    with pytest.raises(ValueError, match=r"rows\[1\]: a second row of the cell"):
        summarise([failed, failed])


@pytest.mark.parametrize("other", [{}, {"new": 1}], ids=["same columns", "another column"])
def test_a_finished_cell_of_another_version_is_kept(tmp_path, other):
    cell = Cell("digits", "none", 0.0, "undefended", n_train=300)
    done = dict.fromkeys(TABLE_ROWS.columns) | vars(cell)
    done |= {"source": "digits", "versions": {"antibackdoor": "0.0.1"}} | other
    path = tmp_path / "cells" / f"{cell.key}.json"
    path.parent.mkdir()
    path.write_text(lines(done))
    with pytest.raises(ValueError, match=f"{path.name}: a row of antibackdoor 0.0.1, .*; wanted"):
        run_benchmark([cell], tmp_path)
    assert path.read_text() == lines(done)


@pytest.mark.parametrize(
    "path",
    sorted((BENCHMARKS / "results" / "tables").glob("*.jsonl")) or [Path("none")],
    ids=lambda path: path.name,
)
def test_stored_tables(path):
    assert len(read_rows(path)) > 20


def test_stored_search_trials(common):
    trials = importlib.import_module("search_trials")
    assert len(read_rows(trials.RESULTS, trials.ROWS)) > 20


@pytest.mark.parametrize("value", ["high", True, [1]])
def test_a_measure_that_is_no_number_is_named(value):
    row = dict.fromkeys(TABLE_ROWS.columns) | {"ca": value}
    with pytest.raises(ValueError, match=r"rows\[0\]: ca is .*; wanted a number"):
        summarise([row])


@pytest.mark.parametrize("behind", ["}", ' {"cell": "b", "ca": 1}', " trailing"])
def test_a_whole_row_with_something_behind_it_is_not_cut_off(file, common, behind):
    damaged = lines(row("a")) + lines(row("b")).rstrip("\n") + behind
    file.write_text(damaged)
    with pytest.raises(ValueError, match="line 2: no JSON"):
        common.resume_rows(file, PLAIN)
    assert file.read_text().rstrip("\n") == damaged


# Adding to a file


def test_a_writer_goes_on_behind_half_a_row(file, common, capsys):
    assert common.resume_rows(file, PLAIN) == []
    assert not file.exists()
    common.append_row(file, row("a"))
    for n_kept in range(1, len(lines(row("b"))) - 1):
        file.write_text(lines(row("a")) + lines(row("b"))[:n_kept])
        assert common.resume_rows(file, PLAIN) == [row("a")]
        assert f"{file}: half a row" in capsys.readouterr().err
        common.append_row(file, row("b", 2))
        assert file.read_text() == lines(row("a"), row("b", 2))


def test_a_writer_goes_on_behind_a_row_without_an_end(file, common, capsys):
    file.write_text(lines(row("a"), row("b")).rstrip("\n"))
    assert common.resume_rows(file, PLAIN) == [row("a"), row("b")]
    common.append_row(file, row("c"))
    assert file.read_text() == lines(row("a"), row("b"), row("c"))
    assert not capsys.readouterr().err


def test_a_writer_mends_nothing_else(file, common):
    damaged = lines(row("a"))[:-9] + "\n" + lines(row("b"))
    file.write_text(damaged)
    with pytest.raises(ValueError, match="line 1: no JSON"):
        common.resume_rows(file, PLAIN)
    assert file.read_text() == damaged
