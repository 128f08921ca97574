"""`antibackdoor drop`: a copy of the data without the rows confirmed as poison."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from antibackdoor.cli._checks import expand, resolve
from antibackdoor.cli._codes import DONE
from antibackdoor.cli._data import add_data, find_data
from antibackdoor.cli._output_lock import only_user
from antibackdoor.cli._staging import Staging
from antibackdoor.cli._text import note, plural, printable, say
from antibackdoor.datasets import load_arrays
from antibackdoor.inspection import drop_confirmed, read_decisions

_EXAMPLES = """\
examples:
  antibackdoor drop photos decisions.csv --out photos-kept
  antibackdoor drop data.npz decisions.csv --out kept.npz
  antibackdoor drop X.npy y.npy decisions.csv --out kept.npz

what is written:
  of a folder        its copy without the images confirmed as poison; other files are unchanged
  of an .npz         X and y, or X_train and y_train, without those rows; X_test and y_test as
                     they are. Other arrays are not copied
  of two .npy files  an .npz with X and y, without those rows
"""


def add_command(commands: Any) -> None:
    """Add the words of this command to a parser."""
    parser = commands.add_parser(
        "drop",
        help="make a copy of images without those that you confirmed as poison",
        description="Copy training data without the images that you confirmed as poison on the "
        "page of a scan.\nThe originals are not changed.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_data(parser)
    parser.add_argument(
        "decisions", type=Path, metavar="CSV", help="the decisions that the page has saved"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="COPY", help="the copy")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    data, decisions = find_data(arguments.data), expand("CSV", arguments.decisions)
    place = _check_out(arguments.out, data)
    staging = Staging(place.parent, [place.name])
    with only_user("--out", place):
        staging.recover()
        _check_out(arguments.out, data)  # again, since it may have changed before we had the lock
        try:
            drop = _drop_files if data[0].is_dir() else _drop_rows
            n_dropped, n_undecided = drop(data, decisions, staging.new / place.name)
            staging.put_in_place()
        finally:
            staging.leave()
    if n_undecided:
        note(f"{plural(n_undecided, 'flagged image is', 'flagged images are')} undecided, and kept")
    say(f"Left out {plural(n_dropped, 'image', 'images')} that you confirmed.")
    say(f"Copy: {printable(expand('--out', arguments.out))}")
    return DONE


def _check_out(out: Path, data: Sequence[Path]) -> Path:
    """Return the path of the copy; refuse one that exists or lies in the data."""
    path = expand("--out", out)
    if path.exists() or path.is_symlink():
        raise ValueError(f"--out {str(out)!r} is there already; give another one.")
    is_folder, is_npz = data[0].is_dir(), path.suffix.lower() == ".npz"
    if is_folder == is_npz:
        wanted = "a folder, as DATA is one" if is_folder else "an .npz file, as DATA holds arrays"
        raise ValueError(f"--out {str(out)!r}; wanted {wanted}.")
    place, source = resolve("--out", path.parent) / path.name, resolve("DATA", data[0])
    if place.is_relative_to(source):
        raise ValueError(f"--out {str(out)!r} lies in the data; wanted a place outside of it.")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"--out {str(out)!r}: there is no folder {str(place.parent)!r}.")
    return place


def _drop_files(data: Sequence[Path], decisions: Path, new: Path) -> tuple[int, int]:
    """Copy a folder; return how many images were left out, and how many are undecided."""
    dropped, undecided = drop_confirmed(data[0], decisions, new)
    return len(dropped), len(undecided)


def _drop_rows(data: Sequence[Path], decisions: Path, new: Path) -> tuple[int, int]:
    """Write arrays anew; return how many rows were left out, and how many are undecided."""
    arrays = load_arrays(*data)
    names = ("X", "y") if "X" in arrays else ("X_train", "y_train")
    decided = read_decisions(decisions, *(arrays[name] for name in names))
    kept = ~decided.confirmed
    changed: dict[str, Any] = {**arrays, **{name: arrays[name][kept] for name in names}}
    # As a file: given a name that ends in .NPZ, numpy would append another ending.
    with new.open("wb") as file:
        np.savez(file, **changed)
    return int(decided.confirmed.sum()), int(decided.undecided.sum())
