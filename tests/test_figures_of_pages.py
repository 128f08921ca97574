"""Figures of README and the pages are those of the stored rows; their lines are short."""

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"

#: Pages with figures.
FILLED = ("README.md", "docs/how-good.md", "docs/guide/photos.md", "docs/guide/progress.md")

#: Pages whose lines are short. Those of measurements are left out: scripts write lines of them.
SHORT = sorted(
    {
        page.relative_to(ROOT).as_posix()
        for page in (*ROOT.glob("*.md"), *ROOT.rglob("docs/**/*.md"))
    }
    - {"docs/how-good.md", "docs/results.md", "docs/methods/search.md"}
)

pytestmark = pytest.mark.skipif(
    not (BENCHMARKS / "results").exists(), reason="the sdist holds no rows"
)


@pytest.fixture(scope="module")
def script():
    """Import a script of the benchmarks by its name."""
    if sys.platform == "win32":
        pytest.skip("locks files as Unix does")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        patch.setenv("OMP_NUM_THREADS", "1")  # which search_trials sets
        yield importlib.import_module


@pytest.mark.parametrize("page", FILLED)
def test_figures_of_a_page_are_those_of_the_rows(script, page):
    fill_pages = script("fill_pages")
    assert set(FILLED) == set(fill_pages.PAGES)
    text = (fill_pages.ROOT / page).read_text(encoding="utf-8")
    filled = fill_pages.filled(text)
    assert filled.splitlines() == text.splitlines(), "run: python benchmarks/fill_pages.py"


def test_every_block_is_on_a_page(script):
    fill_pages = script("fill_pages")
    text = "".join(
        (fill_pages.ROOT / page).read_text(encoding="utf-8") for page in fill_pages.PAGES
    )
    for name in fill_pages.BLOCKS:
        assert f"<!--{name}-->" in text
        assert f"<!--/{name}-->" in text


def test_a_figure_that_differs_is_mended(script):
    fill_pages = script("fill_pages")
    text = (fill_pages.ROOT / "README.md").read_text(encoding="utf-8")
    changed = re.sub(r"\| \d+ min \|", "| 0 min |", text, count=1)
    assert changed != text
    assert fill_pages.filled(changed) == text


def test_an_unknown_block_is_named(script):
    with pytest.raises(ValueError, match="<!--asr--> is no block of figures; wanted one of"):
        script("fill_pages").filled("<!--asr-->\n0 %\n<!--/asr-->")


def test_tables_of_the_results_page_are_those_of_the_rows(script):
    results_page = script("results_page")
    text = results_page.PAGE.read_text(encoding="utf-8")
    assert results_page.page().splitlines() == text.splitlines(), (
        "run: python benchmarks/results_page.py"
    )


@pytest.mark.parametrize("page", SHORT)
def test_lines_of_a_page_are_short(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    # Programs and formulas have lines as long as they need, and so have tables.
    blocks = r"^ *(```.*?^ *```|\$\$.*?^ *\$\$)$"
    prose = re.sub(blocks, "", text, flags=re.DOTALL | re.MULTILINE).splitlines()
    assert [line for line in prose if len(line) > 100 and not line.startswith(("|", "!["))] == []
