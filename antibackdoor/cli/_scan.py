"""`antibackdoor scan`: look for poison in images, and train a network without it."""

from __future__ import annotations

import argparse
import shlex
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antibackdoor.backbones import Backbone, Pretrained, build_network
from antibackdoor.benchmark import limited_threads, make_defense
from antibackdoor.cli._checks import check_seed, check_threads, expand
from antibackdoor.cli._codes import DONE, FOUND
from antibackdoor.cli._data import Data, add_data, read_data
from antibackdoor.cli._decisions import read_suspects
from antibackdoor.cli._progress import ScanProgress
from antibackdoor.cli._scan_facts import (
    tell_facts,
    tell_notes,
    tell_settings,
    tell_shortened,
    tell_times,
)
from antibackdoor.cli._scan_folder import ScanFolder
from antibackdoor.cli._scan_output import ScanOutput
from antibackdoor.cli._scan_power import tell_power
from antibackdoor.cli._text import note, printable, say, to_csv
from antibackdoor.cli._verdict import tell_verdict
from antibackdoor.defenses import BaseDefense
from antibackdoor.detection import settle
from antibackdoor.inspection import write_report
from antibackdoor.persistence import save_model
from antibackdoor.utils import (
    require,
    resolve_device,
    resolve_layout,
    seeded_torch,
    write_whole,
)

# The search does not split smaller classes: two clusters of so few images mean nothing.
_FEWEST_IMAGES = 20

_EXAMPLES = """\
examples:
  antibackdoor scan photos --out scanned
  antibackdoor scan photos --out scanned --size 224 --backbone resnet18 --device cuda
  antibackdoor scan photos --out scanned --list-only
  antibackdoor scan photos --out rescanned --decisions decisions.csv
  antibackdoor scan data.npz --out scanned --defense cbd
  antibackdoor scan X.npy y.npy --out scanned --epochs-scale 0.2
  antibackdoor scan photos --out scanned --resume

what is in DIR afterwards:
  report.html        verdict and flagged images, to review and decide about
  suspects.csv       all images, most suspect first: file, label, score, flagged or not
  model.safetensors  the clean classifier, for antibackdoor.load_model
  log.txt            settings, versions, what was skipped, verdict, times

exit codes:
  0 nothing is flagged, 3 something is flagged, 1 it failed, 2 the command or the data is not
  valid, 130 Ctrl-C, 143 SIGTERM
"""


def add_command(commands: Any) -> None:
    """Add the words of this command to a parser."""
    parser = commands.add_parser(
        "scan",
        help="look for poison in images, and train a classifier without it",
        description="Look for poisoned images in training data, and train a clean classifier.\n"
        "It needs the data alone.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results go")
    parser.add_argument(
        "--decisions",
        type=Path,
        metavar="CSV",
        help="your decisions, saved from the page of an earlier scan: the data is not searched, "
        "and the classifier is trained by your list",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume", action="store_true", help="continue the scan that was stopped in DIR"
    )
    existing.add_argument(
        "--force",
        action="store_true",
        help="replace the results in DIR, once the new ones are complete",
    )

    images = parser.add_argument_group("images of a folder")
    images.add_argument(
        "--size",
        type=int,
        metavar="N",
        help="height and width to resize to (default: the size of most images, up to 64; else 32 "
        "or 64, by the median of the shorter sides)",
    )
    images.add_argument(
        "--no-crop",
        action="store_true",
        help="distort images of other proportions to the size, instead of cropping their margins",
    )

    training = parser.add_argument_group("training")
    training.add_argument(
        "--defense", choices=("abl", "cbd"), default="abl", help="the method (abl)"
    )
    training.add_argument(
        "--list-only",
        action="store_true",
        help="list the suspects and train no classifier: about three quarters of the time, and no "
        "model.safetensors",
    )
    training.add_argument(
        "--power",
        type=int,
        default=0,
        metavar="N",
        help="then plant N known triggers, one at a time, in unflagged images, and tell how many "
        "the search finds: N more searches (0)",
    )
    training.add_argument(
        "--epochs-scale",
        type=float,
        default=1.0,
        metavar="F",
        help="multiplies all numbers of epochs: below 1 is faster and less reliable (1)",
    )
    training.add_argument(
        "--backbone",
        default="auto",
        metavar="NAME",
        help="small-cnn, wrn-16-1, preact-resnet18, or a classifier of torchvision (by the size "
        "of the images)",
    )
    training.add_argument(
        "--weights",
        metavar="FILE",
        help="initial weights of --backbone: a state dict, saved by safetensors or torch; DEFAULT: "
        "those of torchvision, which may download them (default: random weights)",
    )
    training.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of all random choices (0)"
    )
    training.add_argument("--device", default="auto", help="cpu, cuda or auto (auto)")
    training.add_argument(
        "--threads", type=int, metavar="N", help="threads of the CPU (torch's default)"
    )
    training.add_argument(
        "--quiet", action="store_true", help="print only warnings and the verdict"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    started = time.perf_counter()
    _check_arguments(arguments)
    output = ScanOutput(arguments.out, resume=arguments.resume, force=arguments.force)
    output.check(Path(arguments.data[0]))
    with _told(output, arguments), output.opened(Path(arguments.data[0])) as folder:
        data, lines = _read(arguments)
        _check_backbone(arguments, data)
        suspects, told = read_suspects(arguments.decisions, data)
        with _kept(folder, output, arguments):
            folder.make()
            folder.write_log(tell_settings(arguments) + lines + tell_notes(data))
            classifier = _fit(arguments, data, suspects, folder)
            with _told_warnings(folder):
                power = tell_power(classifier, data, arguments)
            remarks = [*tell_shortened(classifier, arguments), *told, *power]
            _write(
                classifier, data, folder, remarks=[*remarks, *lines], facts=tell_facts(arguments)
            )
            verdict = [*tell_verdict(classifier, data.y), *remarks]
            folder.write_log([*verdict, *tell_times(classifier, time.perf_counter() - started)])
            output.finish(folder)
    for line in [*verdict, *_where(ScanFolder(output.path))]:
        say(line)
    return FOUND if len(classifier.isolate_) else DONE


def _check_arguments(arguments: argparse.Namespace) -> None:
    """Refuse arguments that would otherwise fail hours later."""
    require("scan", "persist", "filelock", "safetensors")
    check_threads("--threads", arguments.threads)
    check_seed("--seed", arguments.seed)
    resolve_device(arguments.device)
    # This form of the comparison refuses nan too.
    if not 0 < arguments.epochs_scale <= 1000:
        raise ValueError(
            f"--epochs-scale {arguments.epochs_scale}: wanted a number above 0, up to 1000."
        )
    if arguments.size is not None and arguments.size < 1:
        raise ValueError(f"--size {arguments.size}: wanted a number of pixels, 1 or more.")
    if arguments.weights is not None and arguments.backbone == "auto":
        raise ValueError("--weights without --backbone: name the network that they are of.")
    if arguments.decisions is not None and arguments.list_only:
        raise ValueError("--decisions with --list-only: the list is what you have decided.")
    if arguments.power < 0:
        raise ValueError(f"--power {arguments.power}: wanted a number of triggers, 0 or more.")
    if arguments.decisions is not None and arguments.power:
        raise ValueError("--decisions with --power: the data is not searched then.")


def _read(arguments: argparse.Namespace) -> tuple[Data, list[str]]:
    """Return the data and lines about it."""
    if not arguments.quiet:
        note(f"Reading {' '.join(map(printable, arguments.data))}")
    data = read_data(arguments.data, size=arguments.size, crop=not arguments.no_crop)
    lines = [*data.lines, *_too_small(data)]
    if not arguments.quiet:
        for line in lines:
            note(line)
    return data, lines


def _check_backbone(arguments: argparse.Namespace, data: Data) -> None:
    """Build the network once, so that one that does not fit the images is refused at once."""
    layout = resolve_layout(data.X.shape[1:], layout=data.layout)
    shape = data.X.shape[1:] if layout is None else layout.chw
    with seeded_torch(0, torch.device("cpu")):
        build_network(
            _backbone(arguments),
            shape,
            len(np.unique(data.y)),
            mean=torch.zeros(shape[0]),
            scale=torch.ones(shape[0]),
        )


def _backbone(arguments: argparse.Namespace) -> Backbone:
    if arguments.weights is None:
        return str(arguments.backbone)
    file = arguments.weights
    return Pretrained(
        arguments.backbone, file if file == "DEFAULT" else str(expand("--weights", file))
    )


def _too_small(data: Data) -> list[str]:
    """Return a line on the classes that are too small to search; refuse if all are."""
    classes, counts = np.unique(data.y, return_counts=True)
    if counts.max() < _FEWEST_IMAGES:
        raise ValueError(
            f"DATA holds {len(data.y)} images, at most {counts.max()} of a class; wanted "
            f"{_FEWEST_IMAGES} or more of a class: nothing can be found in fewer."
        )
    small = [printable(name) for name in classes[counts < _FEWEST_IMAGES]]
    if not small:
        return []
    shown = ", ".join(small[:5]) + (f" and {len(small) - 5:,} more" if len(small) > 5 else "")
    return [f"not searched, of fewer than {_FEWEST_IMAGES} images: {shown}"]


@contextmanager
def _told(output: ScanOutput, arguments: argparse.Namespace) -> Iterator[None]:
    """If a scan is stopped, say what is left of it, after cleaning up."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        # `_kept` has already reported on checkpoints.
        raise type(interrupt)(str(interrupt) or output.stays) from None


@contextmanager
def _kept(folder: ScanFolder, output: ScanOutput, arguments: argparse.Namespace) -> Iterator[None]:
    """If a scan is stopped, say whether and how it can be continued."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if output.is_finished:
            raise
        if not folder.has_checkpoints():
            what = f"nothing was finished yet, and nothing is kept; {output.stays}"
            raise type(interrupt)(what) from None
        words = [word for word in arguments.words if word not in ("--force", "--resume")]
        command = shlex.join(["antibackdoor", *words, "--resume"])
        replaced = f" ({output.stays})" if arguments.force else ""
        what = f"what was finished is kept{replaced}. To go on: {command}"
        raise type(interrupt)(what) from None
    except OSError:
        if folder.has_checkpoints():
            note("what was finished is kept: --resume goes on from there")
        raise


def _fit(
    arguments: argparse.Namespace, data: Data, suspects: np.ndarray | None, folder: ScanFolder
) -> Any:
    classifier = make_defense(
        arguments.defense,
        backbone=_backbone(arguments),
        seed=arguments.seed,
        schedule=arguments.epochs_scale,
        device=arguments.device,
        settings={"layout": data.layout, "cache_dir": folder.checkpoints},
    )
    estimator = classifier
    if arguments.list_only:
        estimator = settle(classifier.detector, classifier)
        estimator.set_params(cache_dir=folder.checkpoints)
    with limited_threads(arguments.threads), _told_warnings(folder):
        if not arguments.quiet:
            estimator.set_callbacks(ScanProgress(data))
        if suspects is None:
            return estimator.fit(data.X, data.y)
        return estimator.fit(data.X, data.y, suspects=suspects)


@contextmanager
def _told_warnings(folder: ScanFolder) -> Iterator[None]:
    """Print warnings as a line, without their place in the code."""

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        note(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield


def _write(
    classifier: Any, data: Data, folder: ScanFolder, *, remarks: list[str], facts: dict[str, str]
) -> None:
    write_report(
        classifier,
        data.X,
        data.y,
        folder.report,
        file_names=data.file_names,
        folder=data.folder,
        remarks=remarks,
        facts=facts,
    )
    write_whole(folder.suspects, _suspects(classifier, data))
    if isinstance(classifier, BaseDefense):
        save_model(classifier, folder.model)


def _suspects(classifier: Any, data: Data) -> bytes:
    """Return the table of all images: the flagged ones first, most suspect first."""
    scores, flagged = classifier.isolate_scores_, classifier.isolate_mask_
    others = np.flatnonzero(~flagged)
    order = [*classifier.isolate_, *others[np.argsort(-scores[others], kind="stable")]]
    names = data.file_names or [""] * len(data.y)
    return to_csv(
        ["rank", "row", "file_name", "label", "score", "flagged"],
        (
            [rank, int(row), names[row], str(data.y[row]), float(scores[row]), int(flagged[row])]
            for rank, row in enumerate(order, start=1)
        ),
    )


def _where(folder: ScanFolder) -> list[str]:
    lines = {
        "Look at the images:": folder.report,
        "All scores:": folder.suspects,
        "Clean classifier:": folder.model,
        "Log:": folder.log,
    }
    return [f"{what:21} {printable(path)}" for what, path in lines.items() if path.exists()]
