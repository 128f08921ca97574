"""`antibackdoor bench`: tables of attacks and defences."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from joblib import effective_n_jobs, parallel_config

from antibackdoor.benchmark import (
    PRESETS,
    Cell,
    Grid,
    all_cells,
    check_packages,
    estimate_seconds,
    on_datasets,
    run_benchmark,
)
from antibackdoor.cli._bench_output import BenchOutput
from antibackdoor.cli._checks import check_threads, expand
from antibackdoor.cli._codes import DONE, FAILED
from antibackdoor.cli._text import note, printable, say, table
from antibackdoor.utils import require, resolve_device

_EXAMPLES = """\
examples:
  antibackdoor bench quick
  antibackdoor bench abl-table1 --dry-run
  antibackdoor bench abl-table1 --datasets cifar10 --n-train 5000 --schedule 0.2 \\
      --set batch_size=32 augment=None --out tables
  antibackdoor bench quick --attacks badnets "badnets(label_map='all_to_all')" \\
      --defenses undefended "abl(gamma=0.3)" my_package.my_module.MyClassifier --seeds 0 1 2
  antibackdoor bench cbd-table1 --dask-scheduler tcp://head:8786 --n-jobs 64

presets:
""" + table({name: preset.title for name, preset in PRESETS.items()})


def add_command(commands: Any) -> None:
    """Add the words of this command to a parser."""
    parser = commands.add_parser(
        "bench",
        help="run a table of attacks and defences",
        description="Train the cells of a table of attacks and defences, and write the table.\n"
        "After a stop, run the same command again: only the missing cells are trained.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("preset", choices=PRESETS, metavar="PRESET", help="one of those below")
    parser.add_argument(
        "--out", type=Path, help="directory for rows and tables (bench-PRESET by default)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the cells and stop")

    what = parser.add_argument_group("replace settings of the preset")
    what.add_argument("--datasets", nargs="+", metavar="NAME", help="names, or paths of .npz files")
    what.add_argument(
        "--attacks",
        nargs="+",
        metavar="NAME",
        help='names, calls such as "blend(alpha=0.1)", or paths of your own classes',
    )
    what.add_argument("--rates", nargs="+", type=float, metavar="R", help="shares of all rows")
    what.add_argument(
        "--defenses",
        nargs="+",
        metavar="NAME",
        help='names, calls such as "abl(epochs=10)", or paths of your own classes',
    )
    what.add_argument("--backbones", nargs="+", metavar="NAME", help="names of networks, or auto")
    what.add_argument("--seeds", nargs="+", type=int, metavar="N", help="one training for each")
    what.add_argument("--n-train", type=int, metavar="N", help="training rows of each data set")
    what.add_argument("--schedule", type=float, metavar="F", help="multiplies all epochs")
    what.add_argument(
        "--set",
        nargs="+",
        metavar="NAME=VALUE",
        dest="settings",
        help="parameters of every defence: batch_size=32 augment=None",
    )

    how = parser.add_argument_group("how it runs")
    how.add_argument("--data-root", default="data", metavar="DIR", help="folder of data sets")
    how.add_argument("--download", action="store_true", help="download missing data sets")
    how.add_argument(
        "--n-jobs",
        type=int,
        metavar="N",
        help="cells at a time; -1: one a core (the default, but 1 where a GPU trains)",
    )
    how.add_argument("--threads", type=int, default=1, metavar="N", help="threads of one cell (1)")
    how.add_argument("--device", default="auto", help="cpu, cuda or auto")
    how.add_argument(
        "--dask-scheduler", metavar="ADDRESS", help="run the cells on this Dask cluster"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; exit code 0 if every cell was measured."""
    grids: Sequence[Grid] = PRESETS[arguments.preset].grids
    if arguments.datasets is not None:
        grids = on_datasets(grids, arguments.datasets)
    cells = all_cells(
        grid.changed(
            attacks=_texts(arguments.attacks),
            poison_rates=_texts(arguments.rates),
            defenses=_texts(arguments.defenses),
            backbones=_texts(arguments.backbones),
            seeds=_texts(arguments.seeds),
            n_train=arguments.n_train,
            schedule=arguments.schedule,
            settings=None if arguments.settings is None else ", ".join(arguments.settings),
        )
        for grid in grids
    )
    _check_arguments(arguments)
    if arguments.dry_run:
        _print_plan(cells, arguments)
        return DONE
    check_packages()
    output = BenchOutput(arguments.out or Path(f"bench-{arguments.preset}"))
    output.check()
    try:
        with output.opened(), _backend(arguments):
            rows = run_benchmark(
                cells,
                output.path,
                n_jobs=_n_jobs(arguments, len(cells)),
                threads=arguments.threads,
                device=arguments.device,
                data_root=arguments.data_root,
                download=arguments.download,
                on_row=_print_row,
            )
            failed = [row for row in rows if row["error"] is not None]
            written = output.write_tables(rows) if len(failed) < len(rows) else []
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)("what was finished is kept, the same command goes on") from None
    for path in written:
        say(f"wrote {printable(path)}")
    if written:
        say(f"\n{(output.path / 'table.md').read_text(encoding='utf-8')}")
    for row in failed:
        note(f"failed: {_name(row)}: {row['error']}")
    return DONE if not failed and len(rows) == len(cells) else FAILED


def _check_arguments(arguments: argparse.Namespace) -> None:
    """Refuse arguments that would make every cell fail, or overload the machine."""
    check_threads("--threads", arguments.threads)
    if arguments.n_jobs == 0:
        raise ValueError("--n-jobs 0: wanted a number of cells at a time, or -1 for one a core.")
    if arguments.dask_scheduler is None:
        if arguments.n_jobs is not None and arguments.n_jobs > 0:
            check_threads("--n-jobs", arguments.n_jobs)
        resolve_device(arguments.device)  # a cluster uses the device of its workers
    expand("--data-root", arguments.data_root)
    for name in arguments.datasets or ():
        expand("--datasets", name)


def _n_jobs(arguments: argparse.Namespace, n_cells: int) -> int:
    """Return the number of processes: one a core, or one on a GPU; a cluster has its own."""
    if arguments.n_jobs is not None:
        return min(arguments.n_jobs, n_cells)
    on_gpu = arguments.dask_scheduler is None and resolve_device(arguments.device).type == "cuda"
    return 1 if on_gpu else -1


def _texts(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


@contextmanager
def _backend(arguments: argparse.Namespace) -> Iterator[None]:
    """Let joblib run on the given cluster, or by default."""
    if arguments.dask_scheduler is None:
        yield
        return
    require("--dask-scheduler", "distributed", "distributed")
    from distributed import Client

    with Client(arguments.dask_scheduler), parallel_config(backend="dask"):
        yield


def _print_plan(cells: list[Cell], arguments: argparse.Namespace) -> None:
    try:
        seconds = estimate_seconds(
            cells,
            data_root=arguments.data_root,
            device=arguments.device,
            threads=arguments.threads,
        )
    except FileNotFoundError as error:  # show the cells even if the data is missing
        for cell in cells:
            say(str(cell))
        say(f"{len(cells)} cells; no estimate of the time: {error}")
        return
    for cell, needed in zip(cells, seconds, strict=True):
        say(f"{cell}: about {_duration(needed)}")
    n_jobs = min(effective_n_jobs(_n_jobs(arguments, len(cells))), len(cells))
    say(
        f"{len(cells)} cells: about {_duration(sum(seconds) / n_jobs)} with {n_jobs} at a time on "
        f"this machine, attacks that have to learn their trigger not counted"
    )


def _print_row(n_done: int, n_cells: int, row: dict[str, Any]) -> None:
    if row["error"] is not None:
        told = row["error"]
    else:
        shares = {"CA": row["ca"], "ASR": row["asr"], "TPR": row["tpr"], "FPR": row["fpr"]}
        told = " ".join(f"{head} {100 * x:.1f}" for head, x in shares.items() if x is not None)
        told += f" ({_duration(row['seconds'])})"
    say(f"[{n_done}/{n_cells}] {_name(row)}: {told}")


def _name(row: dict[str, Any]) -> str:
    return str(Cell(**{name: row[name] for name in Cell.__dataclass_fields__}))


def _duration(seconds: float) -> str:
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
