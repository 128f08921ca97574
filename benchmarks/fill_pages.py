"""Fill in the figures of README.md and the pages from the stored rows.

    python benchmarks/fill_pages.py

A page has a block of figures between `<!--NAME-->` and `<!--/NAME-->`; what is written by hand
stands outside. A test fails where a block is not what the rows say.
"""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any

import search_trials
from _common import PROVENANCE

from antibackdoor.benchmark import RowFormat, read_rows

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("README.md", "docs/how-good.md", "docs/guide/photos.md", "docs/guide/progress.md")
WIDTH = 100

Row = dict[str, Any]

COSTS = RowFormat(
    key=itemgetter("side", "n_images"),
    columns=("side", "n_images", "backbone", "minutes", *PROVENANCE),
    supersedes=True,
)

ESTIMATES = RowFormat(
    key=itemgetter("data", "fit"),
    columns=(
        *("data", "fit", "n_images", "estimated_before", "seconds", "estimated_after"),
        *("seconds_of_training", "seconds_of_processor", *PROVENANCE),
    ),
    supersedes=True,
)

PHOTOS = RowFormat(
    key=itemgetter("side", "patch", "backbone", "fit", "n_images", "seed"),
    columns=(
        *("side", "patch", "backbone", "fit", "n_images", "seed", "p_value", "tpr", "fpr"),
        *("ca", "asr", "minutes_estimated", "minutes", "minutes_of_processor", *PROVENANCE),
    ),
    supersedes=True,
)

_SETS = {
    "cifar10": "CIFAR-10",
    "fashion": "Fashion-MNIST",
    "numbers": "house numbers",
}
_ATTACKS = {
    "badnets": "BadNets",
    "trojan": "Trojan",
    "blend": "Blend",
    "sig": "SIG",
    "ssba": "SSBA",
    "dynamic": "Dynamic",
    "dfst": "DFST",
    "lba": "LBA",
    "lf": "low-frequency",
    "wanet": "WaNet",
    "cba": "Composite",
    "fc": "feature collision",
    "cl": "label-consistent",
    "adaptive-blend": "adaptive Blend",
    "adaptive-cbd": "adaptive attacker of CBD",
    "displaced": "displacement",
    "dot-all-to-all": "all-to-all dot",
    "checker": "checkerboard",
    "inverted": "inverted corner",
    "noisy": "noise",
    "blurred": "blur",
    "rotated": "rotation",
    "pixelated": "coarse pixels",
    "corners": "two corners",
    "tinted": "tint",
}
#: Poison is found where so many of its rows are.
FOUND = 0.9
#: A trigger takes where plain training gives so many of its rows the label of the attacker.
TAKES = 0.5
#: Rates below it are named.
USUAL_RATE = 0.05


def per_cent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}".removesuffix("." + "0" * digits)


def span(shares: Iterable[float], digits: int = 1) -> str:
    """Return shares as "94.2 to 100 %"."""
    shares = sorted(shares)
    texts = dict.fromkeys(per_cent(share, digits) for share in (shares[0], shares[-1]))
    return " to ".join(texts) + " %"


# --- costs


def told_time(minutes: float) -> str:
    if minutes >= 120:
        return f"{minutes / 60:.1f} h"
    return f"{max(1, round(minutes))} min"


def costs() -> list[Row]:
    return read_rows(RESULTS / "costs.jsonl", COSTS)


def table(head: str, rows: Iterable[Iterable[object]]) -> str:
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    lines += ["| " + " | ".join(map(str, cells)) + " |" for cells in rows]
    return "\n".join(lines)


def _cost_cells(row: Row) -> tuple[str, str, str]:
    return f"{row['side']} x {row['side']}", f"`{row['backbone']}`", told_time(row["minutes"])


def costs_table() -> str:
    rows = [(f"{row['n_images']:,}", *_cost_cells(row)) for row in costs()]
    return table('| images | size | network of `"auto"` | time |', rows)


def photos_table() -> str:
    photos = sorted((row for row in costs() if row["n_images"] == 1000), key=itemgetter("side"))
    head = '| 1,000 photos, two cores | network of `"auto"` | `ABLClassifier()` |'
    return table(head, map(_cost_cells, reversed(photos)))


def sizes_table() -> str:
    head = "| images | searched at | network | patch | found | flagged wrongly | processor time |"
    rows = read_rows(RESULTS / "photos.jsonl", PHOTOS)
    return table(
        head,
        (
            (
                f"{row['n_images']:,}",
                f"{row['side']} x {row['side']}",
                f"`{row['backbone']}`",
                f"{row['patch']} pixels, {row['patch'] * row['side'] / 224:.1f} at that size",
                f"{per_cent(row['tpr'])} %",
                f"{per_cent(row['fpr'])} %",
                told_time(row["minutes_of_processor"]),
            )
            for row in sorted(rows, key=itemgetter("n_images", "side", "patch"))
        ),
    )


def estimates_table() -> str:
    head = "| data | fit | estimate before, after | the fit took | divided by the mean estimate |"
    return table(
        head,
        (
            (
                f"{row['n_images']:,} images, {_SETS.get(row['data'], row['data'])}",
                row["fit"],
                f"{row['estimated_before']:.0f}, {row['estimated_after']:.0f} s",
                f"{row['seconds']:.0f} s",
                f"{2 * row['seconds'] / (row['estimated_before'] + row['estimated_after']):.2f}",
            )
            for row in read_rows(RESULTS / "estimates.jsonl", ESTIMATES)
        ),
    )


def photo_searches_table() -> str:
    head = "| photos | searched at | found | estimate | the search took |"
    rows = read_rows(RESULTS / "photos.jsonl", PHOTOS)
    return table(
        head,
        (
            (
                f"{row['n_images']:,}",
                f"{row['side']} x {row['side']}",
                f"{per_cent(row['tpr'])} %",
                told_time(row["minutes_estimated"]),
                told_time(row["minutes"]),
            )
            for row in sorted(rows, key=itemgetter("n_images", "side", "patch"))
        ),
    )


# --- what the search finds


def trials() -> list[Row]:
    return sorted(read_rows(search_trials.RESULTS, search_trials.ROWS), key=search_trials.ROWS.key)


def poisoned() -> list[Row]:
    return [row for row in trials() if row["tpr"] is not None]


def dangerous() -> list[Row]:
    """Give the rows of triggers that plain training learns, as far as that was measured."""
    return [row for row in poisoned() if row.get("asr") is None or row["asr"] >= TAKES]


def clean() -> list[Row]:
    return [row for row in trials() if row["tpr"] is None]


def told_set(name: str) -> str:
    half = "half-size " if name.startswith("half-") else ""
    base, _, classes = name.removeprefix("half-").partition("-")
    return half + _SETS.get(base, base) + (f" {classes}" if classes else "")


def told_attack(row: Row) -> str:
    name = _ATTACKS.get(row["attack"], row["attack"])
    rare = row["poison_rate"] < USUAL_RATE
    return f"{name} in {per_cent(row['poison_rate'])} %" if rare else name


def points(lines: Iterable[str]) -> str:
    """Return a list in Markdown, each point without a break within a line's width."""
    return "\n".join(
        textwrap.fill(
            line, WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False
        )
        for line in lines
    )


def grouped(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    """Return rows by their key, those of full-size sets first."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["set"].startswith("half-")):
        groups[key(row)].append(row)
    return groups


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def found() -> str:
    """Tell what is found in every set that it was tried on; half-size sets share a line."""

    def line_of(row: Row) -> str:
        return "half-size sets" if row["set"].startswith("half-") else told_set(row["set"])

    lines = []
    for line, rows in grouped(dangerous(), line_of).items():
        of_attacks = grouped(rows, told_attack).items()
        every = {name: of for name, of in of_attacks if min(row["tpr"] for row in of) >= FOUND}
        if every:
            n_sets = {name: len({row["set"] for row in of}) for name, of in every.items()}
            # One set of many says little.
            told = [name for name, n in n_sets.items() if n > 1 or "sets" not in line]
            share = span(row["tpr"] for name in told for row in every[name])
            told_line = f"{line}, two or more" if "sets" in line else line
            lines.append(f"{_capital(told_line)}: {share} of {', '.join(told)}.")
    return points(lines)


def missed() -> str:
    """Tell of each set what is not found, or in part, the worst first."""
    rows = sorted((row for row in dangerous() if row["tpr"] < FOUND), key=itemgetter("tpr"))
    lines = []
    for name, of_set in sorted(grouped(rows, itemgetter("set")).items()):
        told = (f"{told_attack(row)} ({per_cent(row['tpr'], 0)} %)" for row in of_set)
        lines.append(f"{_capital(told_set(name))}: {', '.join(told)}.")
    return points(lines)


def wrong() -> str:
    beside = sorted(row["fpr"] for row in poisoned())
    at_most, usual = beside[-1], beside[len(beside) * 3 // 4]
    flagging = [row for row in clean() if row["n_flagged"]]
    lines = [
        f"Beside poison up to {per_cent(at_most)} % of the clean rows, "
        f"in three of four trials {per_cent(usual)} % at most."
    ]
    line = f"Of {len(clean())} clean sets {len(flagging)}"
    if flagging:
        sets = ", ".join(dict.fromkeys(told_set(row["set"]) for row in flagging))
        line += f" ({sets}), {span((row['fpr'] for row in flagging), 0)} of the rows"
    return points([*lines, line + "."])


def trials_table() -> str:
    head = "| set | attack | rate | plain ASR | p | TPR | FPR | epochs | seconds | commit |"
    return table(
        head,
        (
            (
                row["set"],
                row["attack"],
                f"{100 * row['poison_rate']:g}",
                "" if row.get("asr") is None else per_cent(row["asr"], 0),
                f"{row['p_value']:.2g}",
                f"{100 * row['tpr']:.1f}",
                f"{100 * row['fpr']:.2f}",
                sum(row["epochs"].values()),
                row["seconds"],
                row["commit"],
            )
            for row in poisoned()
        ),
    )


def clean_table() -> str:
    head = "| clean set | fits | that flag any row | smallest p | commits |"
    return table(
        head,
        (
            (
                name,
                len(fits),
                sum(row["n_flagged"] > 0 for row in fits),
                f"{min(row['p_value'] for row in fits):.2g}",
                ", ".join(sorted({row["commit"] for row in fits})),
            )
            for name, fits in sorted(grouped(clean(), itemgetter("set")).items())
        ),
    )


# --- the pages

BLOCKS: dict[str, Callable[[], str]] = {
    "costs": costs_table,
    "costs-of-photos": photos_table,
    "estimates": estimates_table,
    "searches-of-photos": photo_searches_table,
    "sizes-of-photos": sizes_table,
    "found": found,
    "missed": missed,
    "flagged-wrongly": wrong,
    "trials": trials_table,
    "clean-sets": clean_table,
}
_BLOCK = re.compile(r"<!--(?P<name>[a-z-]+)-->\n(?P<figures>.*?)<!--/(?P=name)-->", re.DOTALL)


def filled(text: str) -> str:
    """Return a page with its blocks as the rows have them.

    Raises
    ------
    ValueError
        If a block is not known.
    """

    def fill(block: re.Match[str]) -> str:
        name = block["name"]
        if name not in BLOCKS:
            raise ValueError(f"<!--{name}--> is no block of figures; wanted one of {[*BLOCKS]}.")
        return f"<!--{name}-->\n\n{BLOCKS[name]()}\n\n<!--/{name}-->"

    return _BLOCK.sub(fill, text)


def main() -> None:
    for name in PAGES:
        page = ROOT / name
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"filled {page}")


if __name__ == "__main__":
    main()
