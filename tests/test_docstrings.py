"""What docstrings and pages show is true: their examples run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

import antibackdoor
from antibackdoor import (
    ABLClassifier,
    ActivationClustering,
    CBDClassifier,
    LossRank,
    PoisonSearch,
    SpectralSignatures,
    UndefendedClassifier,
    make_poisoned,
)

ROOT = Path(__file__).parents[1]

# They train what the pages train: `make docs-test`, apart from the tests of the code.
pytestmark = pytest.mark.docs

# --- docstrings


def modules_of(package):
    """The package and every module in it, but for the one that runs when it is imported."""
    found = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    names = [module.name for module in found if not module.name.endswith("__main__")]
    return [package, *map(importlib.import_module, names)]


def examples_of(module):
    found = doctest.DocTestFinder(exclude_empty=True).find(module, module.__name__)
    return [test for test in found if test.examples]


DOCSTRINGS = {test.name: test for m in modules_of(antibackdoor) for test in examples_of(m)}


def test_docstrings_are_found():
    assert "antibackdoor.defenses._abl.ABLClassifier" in DOCSTRINGS
    assert len(DOCSTRINGS) >= 20


@pytest.fixture(autouse=True)
def somewhere_without_a_screen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    yield
    plt.close("all")


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_docstring(name, capsys):
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    failed, attempted = runner.run(DOCSTRINGS[name], clear_globs=False)
    assert attempted
    assert not failed, capsys.readouterr().out


# --- pages

#: A fenced block of Python, and the comment before it that says what to do with it:
#: ``<!-- not run: why -->``, or ``<!-- file: name.py -->`` for a module that later blocks use.
BLOCK = re.compile(
    r"(?:<!-- (?P<what>not run|file): (?P<detail>.+?) -->\n+)?```python\n(?P<code>.*?)^```",
    re.DOTALL | re.MULTILINE,
)

#: Runs as it stands, and prints what it says: nothing of the reader's is there.
README = "README.md"

#: What takes minutes at the numbers that stand in it. docs/guide/tuning.md has the same in short.
SLOW = '"epochs": [20, 60]'

PAGES = {
    path.relative_to(ROOT).as_posix(): blocks
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if (blocks := list(BLOCK.finditer(path.read_text(encoding="utf-8"))))
}


def lines_above(match):
    return "\n" * match.string[: match.start("code")].count("\n")


@pytest.fixture(scope="module")
def readers_data(split_digits):
    """What pages call X and y: data of the reader, poisoned."""
    X, X_test, y, y_test = split_digits
    X_bad, y_bad, _ = make_poisoned(X[:800], y[:800], attack="badnets", random_state=0)
    return {"X": X_bad, "y": y_bad, "X_test": X_test, "y_test": y_test}


#: Pages that go on with the rows flagged, for which a trigger must have been learned.
FLAGGING = ("docs/guide/tuning.md",)


@pytest.fixture
def short_schedules(page, monkeypatch):
    """Let estimators train for a few epochs where a page leaves them at their defaults."""
    first = 10 if page in FLAGGING else 2
    for estimator, epochs in (
        (PoisonSearch, first),
        (LossRank, first),
        (SpectralSignatures, 2),
        (ActivationClustering, 2),
        (ABLClassifier, 2),
        (CBDClassifier, 2),
        (UndefendedClassifier, 2),
    ):
        for name, value in {"epochs": epochs, "batch_size": 64}.items():
            monkeypatch.setitem(estimator.__init__.__kwdefaults__, name, value)


@pytest.mark.parametrize("page", sorted(PAGES.keys() - {README}))
def test_page(page, readers_data, short_schedules, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    namespace = {"__name__": "__main__", **{k: v.copy() for k, v in readers_data.items()}}
    for block in PAGES[page]:
        if block["what"] == "file":
            (tmp_path / block["detail"]).write_text(block["code"], encoding="utf-8")
            importlib.invalidate_caches()
        elif block["what"] is None and SLOW not in block["code"]:
            # A traceback then names the line of the page.
            code = compile(lines_above(block) + block["code"], str(ROOT / page), "exec")
            exec(code, namespace)


def test_the_script_of_the_readme_prints_what_it_says(capsys):
    text = (ROOT / README).read_text(encoding="utf-8")
    for block in PAGES[README]:
        exec(block["code"], {"__name__": "__main__"})
    printed = capsys.readouterr().out.splitlines()
    (said,) = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    numbers = re.compile(r"\d+(?:\.\d+)?")
    for line, wanted in zip(printed, said.splitlines(), strict=True):
        assert numbers.sub("#", line) == numbers.sub("#", wanted)
        # Other versions and machines round otherwise.
        found, told = (list(map(float, numbers.findall(text))) for text in (line, wanted))
        assert found == pytest.approx(told, abs=2), line


def test_the_readme_is_short():
    text = (ROOT / README).read_text(encoding="utf-8")
    assert len(text.split()) <= 900
    assert len(re.findall(r"^\|[-|: ]+\|$", text, re.MULTILINE)) <= 2
