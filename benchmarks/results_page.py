"""Write docs/results.md and its plots from the stored rows of tables.

    antibackdoor bench quick --out /tmp/quick
    cp /tmp/quick/rows.jsonl benchmarks/results/tables/quick.jsonl
    python benchmarks/results_page.py

Each file in benchmarks/results/tables/ is a table that `antibackdoor bench` has made, named for its
preset (and what sets it apart: abl-table1-5000.jsonl). Nothing else goes into the page.
A test fails where it is not what the rows say.
"""

from __future__ import annotations

import functools
import operator
from pathlib import Path
from typing import Any

from antibackdoor.benchmark import (
    PRESETS,
    make_details,
    make_table,
    read_rows,
    save_tradeoff,
    summarise,
    to_markdown,
)

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "benchmarks" / "results" / "tables"
PAGE = ROOT / "docs" / "results.md"

INTRODUCTION = """\
# Results

Made by `python benchmarks/results_page.py` from the rows in `benchmarks/results/tables/`, which
`antibackdoor bench` wrote (docs/benchmarks.md says how). In per cent. CA: accuracy on clean test
images. ASR: triggered test images that get the attacker's label. R-Acc: those that get their own.
TPR and FPR: poisoned and other training rows that are flagged. Longer studies, with what was tried
and missed: `benchmarks/RESULTS.md`.
"""


def page() -> str:
    """Return the page."""
    return "\n\n".join([INTRODUCTION.rstrip(), *map(section, tables())]) + "\n"


def tables() -> list[Path]:
    return sorted(TABLES.glob("*.jsonl"))


def picture_of(table: Path) -> Path:
    return PAGE.with_name(f"results-{table.stem}.png")


def section(path: Path) -> str:
    """Return the part of the page on one table."""
    rows = read_rows(path)
    summary = summarise(rows)
    preset = next((name for name in PRESETS if path.stem.startswith(name)), None)
    parts = [
        f"## {path.stem}",
        PRESETS[preset].title if preset else "",
        _origin(rows),
        to_markdown(make_table(summary)),
        to_markdown(make_details(summary)),
        f"![ASR against CA, a mark a defence]({picture_of(path).name})",
    ]
    failed = [row for row in rows if row["error"] is not None]
    parts += [f"Failed: {row['attack']}, {row['defense']}: {row['error']}" for row in failed]
    return "\n\n".join(part for part in parts if part)


def _origin(rows: list[dict[str, Any]]) -> str:
    """Say how large, how long, and of which code and machine the rows are."""

    def every(*path: str) -> str:
        found = (functools.reduce(operator.getitem, path, row) for row in rows)
        return ", ".join(dict.fromkeys(map(str, found)))

    measured = [row["seconds"] for row in rows if row["error"] is None]
    return (
        f"{len(rows)} cells; training rows used: {every('n_train').replace('None', 'all')}; "
        f"epochs: {every('schedule')} times the defaults of then; of every defence: "
        f"{every('settings') or 'its own settings'}; seeds: {every('seed')}; "
        f"backbone: {every('backbone')}. "
        f"{sum(measured) / 60:.0f} minutes of training in all, {every('machine', 'threads')} "
        f"thread(s) a cell on {every('machine', 'cores')} cores "
        f"({every('machine', 'gpu').replace('None', 'no GPU')}); commit {every('commit')}; torch "
        f"{every('versions', 'torch')}, scikit-learn {every('versions', 'scikit-learn')}."
    )


def main() -> None:
    for path in tables():
        save_tradeoff(summarise(read_rows(path)), picture_of(path))
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}, {len(tables())} tables")


if __name__ == "__main__":
    main()
