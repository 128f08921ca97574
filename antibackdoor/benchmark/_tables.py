"""Rows as tables: one column a defence, in Markdown, CSV and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antibackdoor.benchmark._packages import check_packages
from antibackdoor.benchmark._run import MEASURES
from antibackdoor.benchmark._store import write_whole

if TYPE_CHECKING:
    import pandas

_ROW = ("dataset", "backbone", "attack", "poison_rate")
_COLUMN = "defense"

#: What the tables show, with the heads of their columns; all in per cent.
HEADS = {
    "ca": "CA",
    "asr": "ASR",
    "r_acc": "R-Acc",
    "target_recall": "target recall",
    "tpr": "TPR",
    "fpr": "FPR",
}


def summarise(rows: Iterable[dict[str, Any]]) -> pandas.DataFrame:
    """Return mean and standard deviation over the seeds of each measure.

    Parameters
    ----------
    rows : iterable of dict
        As `run_benchmark` returns them; failed ones are left out.

    Returns
    -------
    pandas.DataFrame
        One line for each data set, backbone, attack, rate, defence, size and schedule, in
        their order; columns ``n_seeds`` and, for each of `MEASURES`, ``NAME`` and
        ``NAME_std``, as shares. The deviation is nan for a single seed.

    Raises
    ------
    ImportError
        If pandas is not there.
    ValueError
        If no row has been measured.
    """
    check_packages()
    import pandas

    measured = [row for row in rows if row["error"] is None]
    if not measured:
        raise ValueError("rows holds no measured cell: there is no table to make.")
    frame = pandas.DataFrame(measured)
    # None where nothing is to be measured makes a column of objects.
    frame[list(MEASURES)] = frame[list(MEASURES)].astype(float)
    groups = frame.groupby([*_ROW, _COLUMN, "n_train", "schedule"], sort=False, dropna=False)
    means = groups[list(MEASURES)].mean()
    deviations = groups[list(MEASURES)].std().add_suffix("_std")
    summary = groups.size().rename("n_seeds").to_frame().join([means, deviations])
    return summary.reset_index()


def make_table(
    summary: pandas.DataFrame, measures: Sequence[str] = ("ca", "asr")
) -> pandas.DataFrame:
    """Return a table with a line for each attack and a column for each defence and measure.

    Parameters
    ----------
    summary : pandas.DataFrame
        As `summarise` returns it.
    measures : sequence of str, default=("ca", "asr")
        Keys of `HEADS`.

    Returns
    -------
    pandas.DataFrame
        Texts in per cent: the mean, with the standard deviation where there are seeds;
        empty where nothing was measured. Settings that are the same in all
        lines are left out.
    """
    cells = summary[[*_ROW, _COLUMN]].copy()
    for measure in measures:
        cells[HEADS[measure]] = [
            _per_cent(mean, deviation)
            for mean, deviation in zip(summary[measure], summary[f"{measure}_std"], strict=True)
        ]
    cells["poison_rate"] = [f"{100 * rate:.3g}%" if rate else "" for rate in cells["poison_rate"]]
    defenses = list(dict.fromkeys(cells[_COLUMN]))
    lines = list(dict.fromkeys(cells[list(_ROW)].itertuples(index=False, name=None)))
    table = cells.set_index([*_ROW, _COLUMN])[[HEADS[measure] for measure in measures]]
    if table.index.has_duplicates:
        raise ValueError(
            "summary holds lines that differ in n_train or schedule alone; make one table of each."
        )
    table = table.unstack(_COLUMN).swaplevel(axis=1)
    heads = [(defense, HEADS[measure]) for defense in defenses for measure in measures]
    table = table.reindex(index=lines, columns=heads).fillna("")
    same = [name for name in _ROW if name != "attack" and len(set(cells[name])) == 1]
    return table.droplevel(same)


def write_tables(rows: Sequence[dict[str, Any]], directory: str | Path) -> list[Path]:
    """Write the rows and their tables.

    Parameters
    ----------
    rows : sequence of dict
        As `run_benchmark` returns them.
    directory : str or Path
        Which exists.

    Returns
    -------
    list of Path
        ``rows.jsonl`` (every row, failed ones too), ``table.md`` and ``table.tex``
        (CA and ASR, then what was found), ``table.csv`` (the summary of all measures).

    Raises
    ------
    ImportError
        If pandas, jinja2 or tabulate is not there.
    ValueError
        If no row has been measured.
    OSError
        If a file cannot be written; none is there in part.
    """
    summary = summarise(rows)
    quality = make_table(summary)
    findings = make_table(summary, ("r_acc", "target_recall", "tpr", "fpr"))
    files = {
        "rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "table.csv": summary.to_csv(index=False),
        "table.md": f"{to_markdown(quality)}\n\n{to_markdown(findings)}\n",
        "table.tex": to_latex(quality) + "\n" + to_latex(findings),
    }
    written = []
    for name, text in files.items():
        path = Path(directory) / name
        write_whole(path, text)
        written.append(path)
    return written


def to_markdown(table: pandas.DataFrame) -> str:
    """Return a table of `make_table` as a Markdown table with one line of heads."""
    flat = table.copy()
    flat.columns = [f"{defense}: {measure}" for defense, measure in table.columns]
    return flat.reset_index().to_markdown(index=False, disable_numparse=True)


def to_latex(table: pandas.DataFrame) -> str:
    """Return a table of `make_table` as a LaTeX tabular, for the package booktabs."""
    escaped = table.map(_escape).rename(_escape, axis=0).rename(_escape, axis=1)
    escaped.index.names = [_escape(name) for name in table.index.names]
    escaped.columns.names = [None, None]
    return escaped.style.to_latex(hrules=True, multicol_align="c")


def _per_cent(mean: float, deviation: float) -> str:
    if mean != mean:
        return ""
    return f"{100 * mean:.1f}" + (f" ± {100 * deviation:.1f}" if deviation == deviation else "")


def _escape(text: Any) -> str:
    for sign, spelling in {"%": r"\%", "_": r"\_", "±": r"$\pm$"}.items():
        text = str(text).replace(sign, spelling)
    return text
