"""`antibackdoor poison`: a poisoned copy of images, to try defences on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from antibackdoor.attacks import ATTACKS, BaseAttack
from antibackdoor.benchmark import Variant, find_maker
from antibackdoor.cli._checks import check_seed, expand
from antibackdoor.cli._codes import DONE
from antibackdoor.cli._data import counted
from antibackdoor.cli._poison_output import MASK_HEADS, PoisonOutput, folder_mask, npz_mask
from antibackdoor.cli._text import note, printable, say, table, to_csv
from antibackdoor.datasets import (
    PoisonedFile,
    load_arrays,
    make_poisoned,
    poison_image_folder,
)
from antibackdoor.utils import write_whole

_EXAMPLES = """\
examples:
  antibackdoor poison photos --out poisoned --attack badnets --rate 0.1 --target cat
  antibackdoor poison photos --out poisoned --attack "blend(alpha=0.1)" --rate 0.05 --target cat
  antibackdoor poison data.npz --out poisoned.npz --attack wanet --rate 0.1 --target 0

what is written:
  a folder  its copy, with the poisoned images as PNG; and OUT.mask.csv, the list of poisoned images
  an .npz   the same arrays, poisoned; and, next to poisoned.npz, poisoned.mask.npy: True for
            poisoned rows

attacks:
""" + table({name: (maker.__doc__ or "").partition("\n")[0] for name, maker in ATTACKS.items()})


def add_command(commands: Any) -> None:
    """Add the words of this command to a parser."""
    parser = commands.add_parser(
        "poison",
        help="make a poisoned copy of images, to try defences on",
        description="Copy images. Some of them get the trigger of an attack and the attacker's "
        "label.\nThe originals are not changed.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="a folder of class folders with images, or an .npz file with X and y (or X_train and "
        "y_train, and a test part that stays clean)",
    )
    parser.add_argument("--out", type=Path, required=True, help="the copy: a folder, or an .npz")
    parser.add_argument(
        "--attack",
        required=True,
        metavar="NAME",
        help='one of the attacks below, with parameters as in a call: "badnets(size=5)"',
    )
    parser.add_argument(
        "--rate", type=float, required=True, metavar="R", help="share of all images to poison"
    )
    parser.add_argument("--target", required=True, metavar="LABEL", help="the attacker's label")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the choice (0)")
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace the copy of an earlier call, once the new copy is complete",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    check_seed("--seed", arguments.seed)
    variant = _parse_attack(arguments.attack)
    data = expand("DATA", arguments.data)
    if not data.exists():
        raise FileNotFoundError(f"DATA {str(arguments.data)!r}: there is no such folder or file.")
    output = PoisonOutput(arguments.out, is_folder=data.is_dir(), force=arguments.force)
    output.check(data)
    try:
        with output.opened(data) as new:
            make = _poison_folder if data.is_dir() else _poison_npz
            lines, skipped = make(data, new, variant, arguments)
            output.finish()
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)(output.stays) from None
    if skipped:
        note(f"{len(skipped):,} files or folders were not copied:")
        for line in counted(skipped):
            note(line)
    for line in lines:
        say(line)
    say(f"Poisoned copy:  {printable(output.path)}")
    say(f"Which they are: {printable(output.mask)}")
    return DONE


def _poison_folder(
    data: Path, new: Path, variant: Variant, arguments: argparse.Namespace
) -> tuple[list[str], list[tuple[str, str]]]:
    """Write the copy and its mask; return what there is to say, and what was skipped."""
    files, skipped = poison_image_folder(
        data,
        new,
        attack=_make_attack(variant, arguments.target),
        poison_rate=arguments.rate,
        random_state=arguments.seed,
    )
    write_whole(folder_mask(new), _mask(files))
    n_poisoned, n_cover = (
        sum(file.is_poison for file in files),
        sum(file.is_cover for file in files),
    )
    lines = [_tell(n_poisoned, n_cover, len(files))]
    if any(not file.name.endswith(".png") for file in files):
        lines.append("The poisoned ones are PNG, which not all the others are: the format tells.")
    return lines, skipped


def _poison_npz(
    data: Path, new: Path, variant: Variant, arguments: argparse.Namespace
) -> tuple[list[str], list[tuple[str, str]]]:
    """Write the arrays and their mask; return what there is to say."""
    arrays = load_arrays(data)
    X_name, y_name = ("X", "y") if "X" in arrays else ("X_train", "y_train")
    y = arrays[y_name]
    labels = {str(label): label for label in np.unique(y).tolist()}
    if arguments.target not in labels:
        raise ValueError(f"--target {arguments.target!r} is none of the labels {list(labels)}.")
    X_bad, y_bad, poison_mask, cover_mask = make_poisoned(
        arrays[X_name],
        y,
        attack=_make_attack(variant, labels[arguments.target]),
        poison_rate=arguments.rate,
        random_state=arguments.seed,
        return_cover=True,
    )
    changed: dict[str, Any] = {**arrays, X_name: X_bad, y_name: y_bad}
    # As files: given a name that ends in .NPZ, numpy would append another ending.
    with new.open("wb") as file:
        np.savez(file, **changed)
    with npz_mask(new).open("wb") as file:
        np.save(file, poison_mask)
    return [_tell(int(poison_mask.sum()), int(cover_mask.sum()), len(y))], []


def _parse_attack(text: str) -> Variant:
    variant = Variant.parse(text)
    if "target_label" in variant.params:
        raise ValueError(f"--attack {text!r}: the target_label is given by --target alone.")
    find_maker("attack", variant.name, ATTACKS)
    return variant


def _make_attack(variant: Variant, target: Any) -> BaseAttack:
    return find_maker("attack", variant.name, ATTACKS)(**variant.params, target_label=target)


def _mask(files: list[PoisonedFile]) -> bytes:
    return to_csv(
        MASK_HEADS,
        (
            [
                file.name,
                int(file.is_poison),
                int(file.is_cover),
                file.original_label,
                file.original_name,
            ]
            for file in files
        ),
    )


def _tell(n_poisoned: int, n_cover: int, n_images: int) -> str:
    covers = f", {n_cover:,} more are cover images with labels of their own" if n_cover else ""
    share = 100 * n_poisoned / n_images
    return f"Poisoned {n_poisoned:,} of {n_images:,} images ({share:.1f} %){covers}."
