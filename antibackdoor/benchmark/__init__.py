"""Benchmarks of attacks against defences: the papers' tables and your own."""

from antibackdoor.benchmark._bench import run_benchmark
from antibackdoor.benchmark._cells import Cell, Grid, all_cells, on_datasets
from antibackdoor.benchmark._defenses import DEFENSES, make_defense
from antibackdoor.benchmark._estimate import estimate_seconds
from antibackdoor.benchmark._figures import plot_tradeoff, save_tradeoff
from antibackdoor.benchmark._packages import check_packages
from antibackdoor.benchmark._presets import PRESETS, Preset
from antibackdoor.benchmark._rows import TABLE_ROWS, RowFormat, read_rows
from antibackdoor.benchmark._run import limited_threads, run_cell
from antibackdoor.benchmark._tables import (
    make_details,
    make_table,
    summarise,
    to_latex,
    to_markdown,
    write_tables,
)
from antibackdoor.benchmark._variants import Variant, find_maker

__all__ = [
    "DEFENSES",
    "PRESETS",
    "TABLE_ROWS",
    "Cell",
    "Grid",
    "Preset",
    "RowFormat",
    "Variant",
    "all_cells",
    "check_packages",
    "estimate_seconds",
    "find_maker",
    "limited_threads",
    "make_defense",
    "make_details",
    "make_table",
    "on_datasets",
    "plot_tradeoff",
    "read_rows",
    "run_benchmark",
    "run_cell",
    "save_tradeoff",
    "summarise",
    "to_latex",
    "to_markdown",
    "write_tables",
]
