"""Rows as tables: one column a defence, in Markdown, CSV and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antibackdoor.benchmark._packages import check_packages
from antibackdoor.benchmark._rows import TABLE_ROWS, check_rows
from antibackdoor.benchmark._run import MEASURES
from antibackdoor.utils import safe_cell, write_whole

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
    "precision": "precision",
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
        One line for each data set, backbone, attack, rate, defence, size, schedule and settings,
        in their order; columns ``n_seeds`` and, for each of `MEASURES`, ``NAME`` and
        ``NAME_std``, as shares. The deviation is nan for a single seed.

    Raises
    ------
    ImportError
        If pandas is not there.
    ValueError
        If no row has been measured, or one is no row of a table, is of another version of the
        package or of a cell that has one already.

    Examples
    --------
    >>> from antibackdoor.benchmark import Cell, run_cell, summarise
    >>> row = run_cell(Cell("digits", "badnets", 0.1, "undefended(epochs=1)", n_train=200))
    >>> summary = summarise([row])
    >>> len(summary)
    1
    """
    check_packages()
    import pandas

    numbered = ((f"rows[{number}]", row) for number, row in enumerate(rows))
    measured = [row for row in check_rows(numbered, TABLE_ROWS) if row["error"] is None]
    if not measured:
        raise ValueError("rows holds no measured cell: there is no table to make.")
    frame = pandas.DataFrame(measured)
    # None where nothing is to be measured makes a column of objects.
    frame[list(MEASURES)] = frame[list(MEASURES)].astype(float)
    groups = frame.groupby(
        [*_ROW, _COLUMN, "n_train", "schedule", "settings"], sort=False, dropna=False
    )
    means = groups[list(MEASURES)].mean()
    deviations = groups[list(MEASURES)].std().add_suffix("_std")
    summary = groups.size().rename("n_seeds").to_frame().join([means, deviations])
    return summary.reset_index()


def make_table(summary: pandas.DataFrame) -> pandas.DataFrame:
    """Return CA and ASR, with a line for each attack and two columns for each defence.

    Parameters
    ----------
    summary : pandas.DataFrame
        As `summarise` returns it.

    Returns
    -------
    pandas.DataFrame
        Texts in per cent: the mean, with the standard deviation where there are seeds;
        empty where nothing was measured. Settings that are the same in all lines are left
        out of the index.

    Raises
    ------
    ValueError
        If lines differ in ``n_train``, ``schedule`` or ``settings`` alone.

    Examples
    --------
    >>> from antibackdoor.benchmark import Cell, make_table, run_cell, summarise
    >>> row = run_cell(Cell("digits", "badnets", 0.1, "undefended(epochs=1)", n_train=200))
    >>> make_table(summarise([row])).shape
    (1, 2)
    """
    details = make_details(summary)
    measures = [HEADS[name] for name in ("ca", "asr")]
    settings = [name for name in details.index.names if name != _COLUMN]
    defenses = list(dict.fromkeys(summary[_COLUMN]))
    # Unstacking sorts; a table keeps the order in which its cells were asked for.
    lines = details.index.droplevel(_COLUMN).unique()
    table = details[measures].unstack(_COLUMN).swaplevel(axis=1)
    heads = [(defense, measure) for defense in defenses for measure in measures]
    return table.reindex(index=lines, columns=heads).fillna("").rename_axis(settings)


def make_details(summary: pandas.DataFrame) -> pandas.DataFrame:
    """Return all of `HEADS`, with a line for each attack and defence.

    Parameters
    ----------
    summary : pandas.DataFrame
        As `summarise` returns it.

    Returns
    -------
    pandas.DataFrame
        Texts in per cent, as those of `make_table`.

    Raises
    ------
    ValueError
        If lines differ in ``n_train``, ``schedule`` or ``settings`` alone.

    Examples
    --------
    >>> from antibackdoor.benchmark import Cell, make_details, run_cell, summarise
    >>> row = run_cell(Cell("digits", "badnets", 0.1, "undefended(epochs=1)", n_train=200))
    >>> len(make_details(summarise([row])))
    1
    """
    details = summary[[*_ROW, _COLUMN]].copy()
    for measure, head in HEADS.items():
        details[head] = [
            _per_cent(mean, deviation)
            for mean, deviation in zip(summary[measure], summary[f"{measure}_std"], strict=True)
        ]
    details["poison_rate"] = [f"{100 * rate:.3g}%" if rate else "" for rate in summary.poison_rate]
    details = details.set_index([*_ROW, _COLUMN])
    if details.index.has_duplicates:
        raise ValueError(
            "summary holds lines that differ in n_train, schedule or settings alone; make one "
            "table of each."
        )
    same = [
        name for name in _ROW if name != "attack" and len(details.index.unique(level=name)) == 1
    ]
    return details.droplevel(same)


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
        (`make_table`, then `make_details`), ``table.csv`` (`summarise`).

    Raises
    ------
    ImportError
        If pandas, jinja2 or tabulate is not there.
    ValueError
        If no row has been measured.
    OSError
        If a file cannot be written; none is there in part.

    Examples
    --------
    >>> import tempfile
    >>> from antibackdoor.benchmark import Cell, run_cell, write_tables
    >>> row = run_cell(Cell("digits", "badnets", 0.1, "undefended(epochs=1)", n_train=200))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = write_tables([row], folder)
    >>> "table.md" in [file.name for file in files]
    True
    """
    summary = summarise(rows)
    tables = make_table(summary), make_details(summary)
    files = {
        "rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "table.csv": summary.map(safe_cell).to_csv(index=False),
        "table.md": "\n\n".join(map(to_markdown, tables)) + "\n",
        "table.tex": "\n".join(map(to_latex, tables)),
    }
    written = []
    for name, text in files.items():
        path = Path(directory) / name
        write_whole(path, text)
        written.append(path)
    return written


def to_markdown(table: pandas.DataFrame) -> str:
    """Return a table of `make_table` or `make_details` in Markdown, with one line of heads.

    Examples
    --------
    >>> from antibackdoor.benchmark import Cell, make_table, run_cell, summarise, to_markdown
    >>> row = run_cell(Cell("digits", "badnets", 0.1, "undefended(epochs=1)", n_train=200))
    >>> to_markdown(make_table(summarise([row]))).count("|") > 0
    True
    """
    flat = table.copy()
    flat.columns = [" ".join(head) if isinstance(head, tuple) else head for head in table.columns]
    return flat.reset_index().to_markdown(index=False, disable_numparse=True)


def to_latex(table: pandas.DataFrame) -> str:
    """Return a table of `make_table` or `make_details` in LaTeX, for the package booktabs.

    Examples
    --------
    >>> from antibackdoor.benchmark import Cell, make_table, run_cell, summarise, to_latex
    >>> row = run_cell(Cell("digits", "badnets", 0.1, "undefended(epochs=1)", n_train=200))
    >>> "toprule" in to_latex(make_table(summarise([row])))
    True
    """
    escaped = table.map(_escape).rename(_escape, axis=0).rename(_escape, axis=1)
    escaped.index.names = [_escape(name) for name in table.index.names]
    escaped.columns.names = [None] * table.columns.nlevels
    return escaped.style.to_latex(hrules=True, multicol_align="c")


def _per_cent(mean: float, deviation: float) -> str:
    if mean != mean:
        return ""
    return f"{100 * mean:.1f}" + (f" ± {100 * deviation:.1f}" if deviation == deviation else "")


def _escape(text: Any) -> str:
    for sign, spelling in {"%": r"\%", "_": r"\_", "±": r"$\pm$"}.items():
        text = str(text).replace(sign, spelling)
    return text
