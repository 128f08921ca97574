"""`antibackdoor poison`: a poisoned copy of anyone's images, to try defences on."""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from antibackdoor.attacks import ATTACKS, BaseAttack
from antibackdoor.benchmark import Variant, find_maker
from antibackdoor.cli._codes import DONE
from antibackdoor.cli._data import counted
from antibackdoor.cli._text import printable, say, to_csv
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
  a folder  its copy, with the poisoned images as PNG, and OUT.mask.csv beside it: which they are
  an .npz   the same arrays, poisoned; beside poisoned.npz lies poisoned.mask.npy: True for each
            row that is

attacks:
""" + "".join(
    f"  {name:<15} {(maker.__doc__ or '').partition(chr(10))[0]}\n"
    for name, maker in ATTACKS.items()
)


def add_command(commands: Any) -> None:
    """Add the words of this command to a parser."""
    parser = commands.add_parser(
        "poison",
        help="make a poisoned copy of images, to try defences on",
        description="Put the trigger of an attack on some images of a copy, and give them the "
        "label that the attacker wants. The originals stay as they are.",
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
        help='one of those below; parameters as in a call: "badnets(size=5)"',
    )
    parser.add_argument(
        "--rate", type=float, required=True, metavar="R", help="share of all images to poison"
    )
    parser.add_argument("--target", required=True, metavar="LABEL", help="the attacker's label")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice (0)")
    parser.add_argument(
        "--force", action="store_true", help="write over what an earlier call has written"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    data = arguments.data.expanduser()
    out = arguments.out.expanduser()
    if not data.exists():
        raise FileNotFoundError(f"DATA {str(arguments.data)!r}: there is no such folder or file.")
    if out.resolve().is_relative_to(data.resolve()) or data.resolve().is_relative_to(out.resolve()):
        raise ValueError(f"--out {str(out)!r} and DATA {str(data)!r} lie in one another.")
    try:
        if data.is_dir():
            return _poison_folder(data, out, arguments)
        return _poison_npz(data, out, arguments)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("nothing was written") from None


def _poison_folder(data: Path, out: Path, arguments: argparse.Namespace) -> int:
    mask_path = out.with_name(f"{out.name}.mask.csv")
    _check_room(out, mask_path, force=arguments.force)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".poison-") as part:
        copy, mask = Path(part) / "copy", Path(part) / "mask.csv"
        files, skipped = poison_image_folder(
            data,
            copy,
            attack=_make_attack(arguments.attack, arguments.target),
            poison_rate=arguments.rate,
            random_state=arguments.seed,
        )
        write_whole(mask, _mask(files))
        if out.exists():
            shutil.rmtree(out)
        copy.rename(out)
        mask.replace(mask_path)
    _tell(sum(file.is_poison for file in files), sum(file.is_cover for file in files), len(files))
    if any(not file.name.endswith(".png") for file in files):
        say("The poisoned ones are PNG, which not all the others are: the format tells.")
    if skipped:
        say(f"{len(skipped):,} files or folders were not copied:", file=sys.stderr)
        for line in counted(skipped):
            say(line, file=sys.stderr)
    _where(out, mask_path)
    return DONE


def _poison_npz(data: Path, out: Path, arguments: argparse.Namespace) -> int:
    if data.suffix.lower() != ".npz" or out.suffix.lower() != ".npz":
        raise ValueError(
            f"DATA {str(data)!r} --out {str(out)!r}; wanted two folders or two .npz files."
        )
    mask_path = out.with_suffix(".mask.npy")
    if not arguments.force:
        _check_new(out, mask_path)
    arrays = load_arrays(data)
    X_name, y_name = ("X", "y") if "X" in arrays else ("X_train", "y_train")
    y = arrays[y_name]
    labels = {str(label): label for label in np.unique(y).tolist()}
    if arguments.target not in labels:
        raise ValueError(f"--target {arguments.target!r} is none of the labels {list(labels)}.")
    X_bad, y_bad, poison_mask, cover_mask = make_poisoned(
        arrays[X_name],
        y,
        attack=_make_attack(arguments.attack, labels[arguments.target]),
        poison_rate=arguments.rate,
        random_state=arguments.seed,
        return_cover=True,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    poisoned = io.BytesIO()
    changed: dict[str, Any] = {**arrays, X_name: X_bad, y_name: y_bad}
    np.savez(poisoned, **changed)
    mask = io.BytesIO()
    np.save(mask, poison_mask)
    write_whole(mask_path, mask.getvalue())
    write_whole(out, poisoned.getvalue())
    _tell(int(poison_mask.sum()), int(cover_mask.sum()), len(y))
    _where(out, mask_path)
    return DONE


def _make_attack(text: str, target: Any) -> BaseAttack:
    variant = Variant.parse(text)
    if "target_label" in variant.params:
        raise ValueError(f"--attack {text!r}: the target_label is given by --target alone.")
    return find_maker("attack", variant.name, ATTACKS)(**variant.params, target_label=target)


def _check_room(out: Path, mask_path: Path, *, force: bool) -> None:
    """Refuse a folder that is there, unless it may be replaced and is ours to replace."""
    if not force:
        is_empty = out.is_dir() and not any(out.iterdir())
        _check_new(mask_path, *(() if is_empty else (out,)))
    elif out.exists() and not (out.is_dir() and mask_path.is_file()):
        raise ValueError(
            f"--out {str(out)!r} is not replaced: without {mask_path.name} beside it, it was not "
            f"written by this command; remove it yourself, or give another one."
        )


def _check_new(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise ValueError(f"{str(path)!r} is there already; give another --out, or --force.")


def _mask(files: list[PoisonedFile]) -> bytes:
    return to_csv(
        ["file_name", "poisoned", "cover", "original_label", "original_name"],
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


def _tell(n_poisoned: int, n_cover: int, n_images: int) -> None:
    covers = f", {n_cover:,} more are cover images with labels of their own" if n_cover else ""
    share = 100 * n_poisoned / n_images
    say(f"Poisoned {n_poisoned:,} of {n_images:,} images ({share:.1f} %){covers}.")


def _where(out: Path, mask_path: Path) -> None:
    say(f"Poisoned copy:  {printable(out)}")
    say(f"Which they are: {printable(mask_path)}")
