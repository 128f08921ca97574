"""The papers' tables as grids. A new preset is an entry of `PRESETS`."""

from __future__ import annotations

from dataclasses import dataclass

from antibackdoor.benchmark._cells import Grid

_PAPER_ATTACKS = ("badnets", "trojan", "blend", "dynamic")
_ABL_ATTACKS = (*_PAPER_ATTACKS, "sig", "cl", "fc", "dfst", "lba", "cba")
_CBD_ATTACKS = (*_PAPER_ATTACKS, "sig", "wanet")
_GIVEN_CLEAN_ROWS = ("fine-pruning", "mode-connectivity", "nad")
_CBD_COLUMNS = ("undefended", *_GIVEN_CLEAN_ROWS, "dbd-paper", "abl-paper", "cbd-paper", "cbd")
# Class 0, the target, is among GTSRB's smallest: about half a per cent of the rows.
_GTSRB_CLEAN_LABEL_RATE = 0.0025


@dataclass(frozen=True)
class Preset:
    """A table by name.

    Attributes
    ----------
    title : str
        What it shows.
    grids : tuple of Grid

    Examples
    --------
    >>> from antibackdoor.benchmark import PRESETS, Preset
    >>> isinstance(PRESETS["quick"], Preset), PRESETS["quick"].grids[0].datasets
    (True, ('digits',))
    """

    title: str
    grids: tuple[Grid, ...]


def _isolations(parameter: str, values: tuple[float, ...]) -> tuple[str, ...]:
    """Vary a parameter of ABL's first stage; the second is cut to what fit cannot go without."""
    return tuple(f"abl-paper({parameter}={value}, epochs=1)" for value in values)


#: Every table that has a name. Epochs and sizes are the papers'; n_train and schedule shorten them.
PRESETS: dict[str, Preset] = {
    "quick": Preset(
        "Digits in minutes: three attacks, seven defences at their defaults.",
        (
            Grid(
                datasets=("digits",),
                attacks=("none", "badnets", "blend", "lf"),
                defenses=(
                    "undefended",
                    "abl",
                    "cbd",
                    "fine-pruning",
                    "nad",
                    "activation-clustering",
                    "spectral-signatures",
                ),
            ),
        ),
    ),
    "abl-table1": Preset(
        "ABL, table 1: ten attacks on CIFAR-10, five on GTSRB; ABL beside what it compares with.",
        (
            Grid(
                datasets=("cifar10",),
                attacks=("none", *_ABL_ATTACKS),
                defenses=("undefended", *_GIVEN_CLEAN_ROWS, "abl-paper", "abl"),
                backbones=("wrn-16-1",),
            ),
            Grid(
                datasets=("gtsrb",),
                attacks=("none", *_PAPER_ATTACKS, "sig"),
                defenses=("undefended", *_GIVEN_CLEAN_ROWS, "abl-paper", "abl"),
                clean_label_rate=_GTSRB_CLEAN_LABEL_RATE,
                backbones=("wrn-16-1",),
            ),
        ),
    ),
    "abl-rates": Preset(
        "ABL at poisoning rates of 50 and 70 %.",
        (
            Grid(
                datasets=("cifar10",),
                attacks=_PAPER_ATTACKS,
                defenses=("undefended", "abl-paper", "abl"),
                poison_rates=(0.5, 0.7),
                backbones=("wrn-16-1",),
            ),
        ),
    ),
    "abl-isolation": Preset(
        "ABL's isolation alone: precision by share isolated, turning epoch and gamma.",
        (
            Grid(
                datasets=("cifar10",),
                attacks=_ABL_ATTACKS,
                defenses=(
                    *_isolations("detector__ratio", (0.01, 0.05, 0.1, 0.2)),
                    *_isolations("detector__epochs", (10, 20, 30, 40)),
                    *_isolations("detector__gamma", (0.0, 0.5, 1.0, 1.5)),
                ),
                backbones=("wrn-16-1",),
            ),
        ),
    ),
    "cbd-table1": Preset(
        "CBD, table 1: six attacks on CIFAR-10 and GTSRB; CBD beside what it compares with.",
        (
            Grid(
                datasets=("cifar10",),
                attacks=("none", *_CBD_ATTACKS),
                defenses=_CBD_COLUMNS,
                backbones=("wrn-16-1",),
            ),
            Grid(
                datasets=("gtsrb",),
                attacks=("none", *_CBD_ATTACKS),
                defenses=_CBD_COLUMNS,
                clean_label_rate=_GTSRB_CLEAN_LABEL_RATE,
                backbones=("wrn-16-1",),
            ),
        ),
    ),
    "cbd-ablation": Preset(
        "CBD without each of its terms.",
        (
            Grid(
                datasets=("cifar10",),
                attacks=_CBD_ATTACKS,
                defenses=(
                    "cbd-paper",
                    "cbd-paper(weighting='none')",
                    "cbd-paper(independence=0.0)",
                    "cbd-paper(bottleneck=0.0)",
                    "cbd-paper(bottleneck=0.0, independence=0.0)",
                ),
                backbones=("wrn-16-1",),
            ),
        ),
    ),
    "cbd-rates": Preset(
        "CBD at poisoning rates from 1 to 50 %.",
        (
            Grid(
                datasets=("cifar10",),
                attacks=_PAPER_ATTACKS,
                defenses=("undefended", "cbd-paper", "cbd"),
                poison_rates=(0.01, 0.05, 0.1, 0.2, 0.5),
                backbones=("wrn-16-1",),
            ),
        ),
    ),
    "cbd-adaptive": Preset(
        "CBD against an attacker who slows the learning of the trigger down.",
        (
            Grid(
                datasets=("cifar10",),
                attacks=("badnets", "adaptive-cbd"),
                defenses=("undefended", "cbd-paper", "cbd"),
                backbones=("wrn-16-1",),
            ),
        ),
    ),
}
