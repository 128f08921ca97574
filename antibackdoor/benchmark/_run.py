"""One cell, from the data to its row."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from joblib import Memory, parallel_config
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from antibackdoor.attacks import ATTACKS, BaseAttack
from antibackdoor.benchmark._cells import NO_ATTACK, Cell
from antibackdoor.benchmark._defenses import make_defense
from antibackdoor.benchmark._provenance import provenance
from antibackdoor.benchmark._variants import Variant, find_maker, parse_params
from antibackdoor.datasets import Dataset, load_dataset, make_poisoned
from antibackdoor.metrics import (
    clean_accuracy,
    isolation_precision,
    isolation_recall,
    robust_accuracy,
    target_recall,
)
from antibackdoor.utils import resolve_device
from antibackdoor.utils._surroundings import surroundings

#: Share of the unpoisoned training rows that is given to defences which need clean rows.
CLEAN_SHARE = 0.05

# Of this process. Learning an attack is a part of a cell, so the same thread may take it twice.
_ONE_AT_A_TIME = RLock()


def _renew_lock() -> None:
    """Free a forked process of the lock that a thread of its parent's holds."""
    global _ONE_AT_A_TIME
    _ONE_AT_A_TIME = RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_lock)

#: What a row measures, in the order of its columns. Shares, not per cent.
MEASURES = (
    "ca",
    "asr",
    "asr_without_trigger",
    "r_acc",
    "target_recall",
    "tpr",
    "fpr",
    "precision",
)


def data_source(cell: Cell, data_root: str) -> str:
    """Return what tells the data of a cell from other data of the same name."""
    if cell.dataset == "imagefolder":  # any folder's
        return f"{cell.dataset} {Path(data_root).expanduser().resolve()}"
    return cell.fingerprint


def load_data(cell: Cell, *, data_root: str = "data", download: bool = False) -> Dataset:
    """Return the data set of a cell, or some of its training rows, drawn class by class.

    Raises
    ------
    ValueError
        If it has fewer rows than asked for, or `load_dataset` cannot use it.
    """
    source = data_source(cell, data_root)
    return _load_data(cell.dataset, source, cell.n_train, data_root, download)


# The cells of a table follow one another on the same data; a process keeps the last.
@lru_cache(maxsize=1)
def _load_data(
    dataset: str, source: str, n_train: int | None, data_root: str, download: bool
) -> Dataset:
    data = load_dataset(dataset, data_root=data_root, download=download)
    if n_train is None or n_train == len(data.y_train):
        return data
    n_classes = len(np.unique(data.y_train))
    if not n_classes <= n_train < len(data.y_train):
        raise ValueError(
            f"n_train={n_train}; {dataset!r} has {len(data.y_train)} training rows of "
            f"{n_classes} classes; wanted a number in between."
        )
    X, _, y, _ = train_test_split(
        data.X_train, data.y_train, train_size=n_train, stratify=data.y_train, random_state=0
    )
    return Dataset(X, y, data.X_test, data.y_test, data.class_names)


def learned_attack(cell: Cell) -> str | None:
    """Return what names the attack of a cell if it is one that trains, which takes time."""
    if cell.attack == NO_ATTACK:
        return None
    attack = _make_attack(cell.attack)
    return cell.attack if attack.trigger_is_learned else None


def learn_attack(
    cell: Cell,
    *,
    data_root: str = "data",
    memory: str | None = None,
    device: str = "auto",
    threads: int | None = 1,
) -> BaseAttack:
    """Fit the attack of a cell on its clean rows; take one that trains from a memory.

    Parameters
    ----------
    memory : str, default=None
        Directory of a `joblib.Memory`. What lies in it is unpickled: trust it as
        you would code.

    Returns
    -------
    BaseAttack
        Fitted, by the same seed for all seeds of a table.
    """
    data = load_data(cell, data_root=data_root)
    kept_in = None if learned_attack(cell) is None else memory
    with limited_threads(threads):
        return Memory(kept_in, verbose=0).cache(_fit_attack, ignore=["X", "y"])(
            cell.attack,
            data_source(cell, data_root),
            cell.n_train,
            device,
            surroundings(resolve_device(device)),
            data.X_train,
            data.y_train,
        )


def _fit_attack(
    attack: str,
    source: str,
    n_train: int | None,
    device: str,
    surrounded_by: dict[str, Any],  # tells what is kept apart
    X: np.ndarray,
    y: np.ndarray,
) -> BaseAttack:
    made = _make_attack(attack)
    if "device" in made.get_params(deep=False) and "device" not in Variant.parse(attack).params:
        made.set_params(device=device)
    return made.fit(X, y)


def _make_attack(attack: str) -> BaseAttack:
    variant = Variant.parse(attack)
    return find_maker("attack", variant.name, ATTACKS)(**variant.params)


def run_cell(
    cell: Cell,
    *,
    data_root: str = "data",
    memory: str | None = None,
    device: str = "auto",
    threads: int | None = 1,
) -> dict[str, Any]:
    """Poison, train and measure one cell.

    Parameters
    ----------
    cell : Cell
    data_root : str, default="data"
        Where data sets lie.
    memory : str, default=None
        Directory where attacks are kept that train; as in `learn_attack`.
    device : str, default="auto"
    threads : int, default=1
        Of this training. The same number gives the same figures.

    Returns
    -------
    dict
        A row: the settings, `MEASURES` (None if not measured), numbers of rows, seconds,
        provenance, and ``"error"``: the error, or None. Nothing is raised, so that one failing
        cell does not stop a table.

    Examples
    --------
    >>> from antibackdoor.benchmark import Cell, run_cell
    >>> row = run_cell(Cell("digits", "badnets", 0.1, "undefended(epochs=1)", n_train=200))
    >>> row["error"] is None, 0 <= row["ca"] <= 1
    (True, True)
    """
    settings = {"data_root": data_root, "device": device, "threads": threads}
    row = _new_row(cell, settings)  # says of which code, before another lands meanwhile
    try:
        with limited_threads(threads):
            return row | _measure(cell, data_root, memory, device, threads)
    except Exception as error:
        return row | _told(error)


def failed_row(cell: Cell, settings: dict[str, Any], error: Exception) -> dict[str, Any]:
    """Return the row of a cell that could not even say itself what went wrong.

    Parameters
    ----------
    settings : dict
        Arguments of `run_cell`.
    """
    return _new_row(cell, settings) | _told(error)


def _new_row(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        **asdict(cell),
        "source": data_source(cell, settings["data_root"]),
        "device": settings["device"],
        **dict.fromkeys(MEASURES),
        "error": None,
        **provenance(settings["threads"]),
    }


def _told(error: Exception) -> dict[str, Any]:
    lines = traceback.format_exception(error)
    return {"error": f"{type(error).__name__}: {error}", "traceback": "".join(lines)}


def _measure(
    cell: Cell, data_root: str, memory: str | None, device: str, threads: int | None
) -> dict[str, Any]:
    data = load_data(cell, data_root=data_root)
    X, y, poison_mask, cover_mask = data.X_train, data.y_train, None, None
    if cell.attack != NO_ATTACK:
        attack = learn_attack(
            cell, data_root=data_root, memory=memory, device=device, threads=threads
        )
        X, y, poison_mask, cover_mask = make_poisoned(
            X,
            y,
            attack=attack,
            poison_rate=cell.poison_rate,
            random_state=cell.seed,
            return_cover=True,
        )
    clf = make_defense(
        cell.defense,
        backbone=cell.backbone,
        seed=cell.seed,
        schedule=cell.schedule,
        settings=parse_params(cell.settings),
        device=device,
    )
    told = {}
    if has_fit_parameter(clf, "clean_mask"):
        tampered = np.zeros(len(y), bool) if poison_mask is None else poison_mask | cover_mask
        told["clean_mask"] = _draw_clean(y, tampered, cell.seed)
    started = time.perf_counter()
    clf.fit(X, y, **told)
    row: dict[str, Any] = {"seconds": time.perf_counter() - started}

    predicted = clf.predict(data.X_test)
    row["ca"] = clean_accuracy(data.y_test, predicted)
    row |= _measure_flags(clf, poison_mask)
    if cell.attack != NO_ATTACK:
        row |= _measure_attack(clf, attack, data, predicted)
    return row


def _draw_clean(y: np.ndarray, tampered: np.ndarray, seed: int) -> np.ndarray:
    """Choose the rows that a defence is told are clean, class by class, one of each at least."""
    rng = np.random.RandomState(seed)
    clean_mask = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        untouched = np.flatnonzero((y == label) & ~tampered)
        if len(untouched) == 0:
            raise ValueError(f"no row of class {label!r} is clean, and this defence needs one.")
        # Of the untouched rows: counted with its poison, the target class would stand out.
        wanted = max(1, round(CLEAN_SHARE * len(untouched)))
        clean_mask[rng.choice(untouched, wanted, replace=False)] = True
    return clean_mask


def _measure_flags(clf: Any, poison_mask: np.ndarray | None) -> dict[str, Any]:
    """Compare the flagged rows, where a defence of whatever make flags any, with the poison."""
    flagged = getattr(clf, "isolate_mask_", None)
    if flagged is None or not getattr(clf, "flags_rows", True):
        return {}
    natural = np.ones(len(flagged), bool) if poison_mask is None else ~poison_mask
    measured: dict[str, Any] = {
        "n_isolated": int(flagged.sum()),
        "fpr": float(flagged[natural].mean()),
    }
    p_value = getattr(clf, "isolate_pvalue_", np.nan)
    measured["p_value"] = None if np.isnan(p_value) else float(p_value)
    if poison_mask is not None:
        measured["n_poisoned"] = int(poison_mask.sum())
        measured["tpr"] = isolation_recall(poison_mask, flagged)
        # Of nothing flagged no share is poison: there is nothing to be precise about.
        measured["precision"] = isolation_precision(poison_mask, flagged) if flagged.any() else None
    return measured


def _measure_attack(
    clf: Any, attack: BaseAttack, data: Dataset, predicted: np.ndarray
) -> dict[str, Any]:
    wanted = attack.transform_target(data.y_test)
    victims = wanted != data.y_test
    truth = data.y_test[victims]
    given = clf.predict(attack.transform(data.X_test[victims]))
    measured = {
        "asr": float(attack.succeeded(truth, given).mean()),
        "asr_without_trigger": float(attack.succeeded(truth, predicted[victims]).mean()),
        "r_acc": robust_accuracy(truth, given),
    }
    targets = np.unique(wanted[victims])
    if len(targets) == 1 and targets[0] in data.y_test:
        measured["target_recall"] = target_recall(data.y_test, predicted, target_label=targets[0])
    return measured


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Keep torch and numerical libraries to some threads, and give them back; None: as they are.

    A process does one thing of this kind at a time, whatever threads its backend has: the
    number is the process's, and the first to end would give it back to all. What asks joblib
    for more inside is not sent out either, since a Dask worker that waits for it begins
    something else meanwhile.

    Examples
    --------
    >>> import torch
    >>> from antibackdoor.benchmark import limited_threads
    >>> with limited_threads(1):
    ...     torch.get_num_threads()
    1
    """
    with _ONE_AT_A_TIME:
        before = torch.get_num_threads()
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            with threadpool_limits(threads), parallel_config(backend="sequential"):
                yield
        finally:
            torch.set_num_threads(before)
