"""The cells of a table, and the grid that spans them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from antibackdoor.attacks import ATTACKS
from antibackdoor.benchmark._defenses import DEFENSES
from antibackdoor.benchmark._variants import Variant, find_maker, parse_params, spell
from antibackdoor.utils import plain
from antibackdoor.utils._numbers import check_number

#: As an attack: data without poison.
NO_ATTACK = "none"


@dataclass(frozen=True)
class Cell:
    """One cell of a table: a defence trained on a poisoned data set.

    Attributes
    ----------
    dataset : str
        A name, a key of `antibackdoor.datasets.DATASETS`, or the path of a ``.npz`` file.
    attack : str
        A key of `antibackdoor.attacks.ATTACKS`, the path of a class, or ``"none"``;
        parameters as in a call: ``"badnets(label_map='all_to_all')"``.
    poison_rate : float
        Share of all rows; 0 where there is no attack.
    defense : str
        A key of `DEFENSES` or the path of a class; parameters as in a call.
    backbone : str
        Backbone of the defence.
    seed : int
        Seed of the choice of poisoned rows and of the training.
    n_train : int or None
        Number of training rows, drawn class by class. None: all.
    schedule : float
        Factor of the epochs of the defence.
    settings : str
        Parameters of every defence, as in a call: ``"batch_size=32"``. Parameters of the defence
        itself take precedence.

    Examples
    --------
    >>> from antibackdoor.benchmark import Cell
    >>> print(Cell("digits", "badnets", 0.1, "abl", seed=1))
    digits badnets 0.1 abl auto seed 1
    """

    dataset: str
    attack: str
    poison_rate: float
    defense: str
    backbone: str = "auto"
    seed: int = 0
    n_train: int | None = None
    schedule: float = 1.0
    settings: str = ""

    def __post_init__(self) -> None:
        # One spelling for equal cells, since results are found by it.
        for name in ("attack", "defense"):
            object.__setattr__(self, name, str(Variant.parse(getattr(self, name))))
        for name in ("n_train", "poison_rate", "schedule", "seed"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        object.__setattr__(self, "settings", spell(parse_params(self.settings)))
        self._check()

    def _check(self) -> None:
        find_maker("defense", Variant.parse(self.defense).name, DEFENSES)
        clean = self.attack == NO_ATTACK
        if not clean:
            find_maker("attack", Variant.parse(self.attack).name, ATTACKS)
        check_number("poison_rate", self.poison_rate, "wanted a number")
        check_number("schedule", self.schedule, "wanted a number")
        if not (self.poison_rate == 0 if clean else 0 < self.poison_rate < 1):
            raise ValueError(
                f"poison_rate={self.poison_rate!r} with attack={self.attack!r}; wanted a share "
                f"above 0 and below 1, and 0 for {NO_ATTACK!r}."
            )
        if not self.schedule > 0:
            raise ValueError(f"schedule={self.schedule!r}; wanted a number above 0.")
        if self.n_train is not None and self.n_train < 2:
            raise ValueError(f"n_train={self.n_train!r}; wanted two rows or more, or None for all.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed!r}; wanted a whole number from 0 to 2**32 - 1.")

    @property
    def key(self) -> str:
        """Name of the file that the result of this cell goes to."""
        told = {**asdict(self), "dataset": self.fingerprint}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def fingerprint(self) -> str:
        """Name of the data set, and of a file its contents: another one is another cell."""
        if not self.dataset.lower().endswith(".npz"):
            return self.dataset
        path = Path(self.dataset).expanduser()
        try:
            status = path.stat()
            return f"{self.dataset} {_digest(path, status.st_mtime_ns, status.st_size)}"
        except OSError:
            return self.dataset  # whoever loads it says what is wrong with it

    def __str__(self) -> str:
        rate = f" {self.poison_rate:.3g}" if self.poison_rate else ""
        return f"{self.dataset} {self.attack}{rate} {self.defense} {self.backbone} seed {self.seed}"


# A table asks once for each of its cells.
@lru_cache(maxsize=16)
def _digest(path: Path, modified: int, size: int) -> str:
    """Return the SHA-256 of a file, read again where its time or size is another."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Grid:
    """Every combination of data sets, attacks, rates, defences, backbones and seeds.

    Attributes
    ----------
    datasets, attacks, defenses, backbones : tuple of str
        As in `Cell`.
    poison_rates : tuple of float
        Shares of all rows. Ignored for the attack ``"none"``, which occurs once.
    clean_label_rate : float
        Largest share of all rows for clean-label attacks, which can only poison rows of the
        target class. With ten classes of equal size, 0.05 is half of that class.
    seeds : tuple of int
    n_train : int or None
    schedule : float
    settings : str

    Examples
    --------
    >>> from antibackdoor.benchmark import Grid
    >>> grid = Grid(("digits",), ("none", "badnets"), ("abl", "cbd"), seeds=(0, 1))
    >>> len(grid.cells())
    8
    """

    datasets: tuple[str, ...]
    attacks: tuple[str, ...]
    defenses: tuple[str, ...]
    poison_rates: tuple[float, ...] = (0.1,)
    clean_label_rate: float = 0.05
    backbones: tuple[str, ...] = ("auto",)
    seeds: tuple[int, ...] = (0,)
    n_train: int | None = None
    schedule: float = 1.0
    settings: str = ""

    def cells(self) -> list[Cell]:
        """Return the cells, those that share poisoned data side by side."""
        return list(
            dict.fromkeys(
                Cell(
                    dataset=dataset,
                    attack=attack,
                    poison_rate=self._rate(attack, rate),
                    defense=defense,
                    backbone=backbone,
                    seed=seed,
                    n_train=self.n_train,
                    schedule=self.schedule,
                    settings=self.settings,
                )
                for dataset, attack, rate, seed, backbone, defense in itertools.product(
                    self.datasets,
                    self.attacks,
                    self.poison_rates,
                    self.seeds,
                    self.backbones,
                    self.defenses,
                )
            )
        )

    def _rate(self, attack: str, rate: float) -> float:
        if attack == NO_ATTACK:
            return 0.0
        maker = find_maker("attack", Variant.parse(attack).name, ATTACKS)
        return min(rate, self.clean_label_rate) if getattr(maker, "clean_label", False) else rate

    def changed(self, **changes: Any) -> Grid:
        """Return a grid with some of its settings replaced; those that are None stay."""
        return replace(self, **{name: new for name, new in changes.items() if new is not None})


def all_cells(grids: Iterable[Grid]) -> list[Cell]:
    """Return the cells of some grids, each once.

    Examples
    --------
    >>> from antibackdoor.benchmark import Grid, all_cells
    >>> grid = Grid(("digits",), ("badnets",), ("abl", "cbd"))
    >>> len(all_cells([grid, grid]))
    2
    """
    return list(dict.fromkeys(cell for grid in grids for cell in grid.cells()))


def on_datasets(grids: Sequence[Grid], names: Sequence[str]) -> list[Grid]:
    """Return the grids of some data sets.

    Parameters
    ----------
    grids : sequence of Grid
    names : sequence of str
        A data set of the grids stays with the settings of its own; any other one takes
        the place of the first grid's.

    Returns
    -------
    list of Grid
        Those that have a data set left.

    Examples
    --------
    >>> from antibackdoor.benchmark import PRESETS, on_datasets
    >>> [grid.datasets for grid in on_datasets(PRESETS["abl-table1"].grids, ["gtsrb"])]
    [('gtsrb',)]
    """
    known = {name for grid in grids for name in grid.datasets}
    new = tuple(name for name in names if name not in known)
    kept = [
        grid.changed(
            datasets=tuple(name for name in names if name in grid.datasets)
            + (new if grid is grids[0] else ())
        )
        for grid in grids
    ]
    return [grid for grid in kept if grid.datasets]
