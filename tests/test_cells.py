"""No spreadsheet computes a cell of a table: in Python and on the page by one rule."""

import csv
import io
import json
import re
import shutil
import subprocess
from importlib.resources import files

import pytest

from antibackdoor.cli._text import to_csv
from antibackdoor.utils import safe_cell

SIGNS = "=+-@＝＋－＠﹦﹢﹣﹫⁼⁺₌₊⁻₋−"
BEFORE = ["", " ", "\t", "\r", "\n", "\r\n", "\x0b", "\x00", "\xa0", "\u3000", "\u200b", "\ufeff"]
BEFORE += ["\u2028", "\u202e", "\u00ad", "\ufe0f", "\u3164", "\u2800", "\udc80", " \u200b\t"]
FORMULAS = [f"{before}{sign}a" for before in BEFORE for sign in SIGNS]
FORMULAS += [
    "=1",
    "+1",
    "-1+1",
    "-",
    "=\u0338",
    "-1\n",
    "- 1",
    "-0x1",
    "\tc",
    "\rd",
    "\ne",
    "\x1bf",
]
OTHERS = ["", "a", "a=1", "'=1", "1", "-1", "-1.5", "-1e-7", "-2.E+3", " a", "\u200bb", "東京", "é"]
OTHERS += ["a\n=1", "d0/1.png", "–", "_", "(1)", "\udc80.png"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text):
    table = to_csv(["x"], [[text], [-1.5]]).decode("utf-8", "surrogateescape")
    lines = list(csv.reader(io.StringIO(table, newline="")))
    assert lines == [["x"], ["'" + text], ["-1.5"]]


@pytest.mark.parametrize("cell", [*OTHERS, -1, -1.5, None, True])
def test_other_cells_stay_as_they_are(cell):
    assert safe_cell(cell) is cell


def test_the_page_has_the_same_rule():
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here")
    script = files("antibackdoor.inspection").joinpath("report.js").read_text(encoding="utf-8")
    rule = re.search(r"const BLANK = .*?\n  }\n", script, re.DOTALL)[0]
    texts = [*FORMULAS, *OTHERS]
    program = f"{rule} console.log(JSON.stringify({json.dumps(texts)}.map(mayBeFormula)))"
    done = subprocess.run([node, "-e", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [safe_cell(text) != text for text in texts]


def test_tables_of_a_bench(tmp_path):
    from antibackdoor.benchmark import Grid, run_benchmark, write_tables

    (row,) = run_benchmark(
        Grid(("digits",), ("badnets",), ("undefended",), n_train=200, schedule=0.02).cells(),
        tmp_path,
        device="cpu",
    )
    write_tables([{**row, "dataset": "=1+1.npz"}], tmp_path)
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        (line,) = csv.DictReader(file)
    assert line["dataset"] == "'=1+1.npz"
    assert float(line["ca"]) == row["ca"]
