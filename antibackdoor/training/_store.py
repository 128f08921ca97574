"""Phases of training saved in a folder: finished ones, and the progress of others."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from antibackdoor.training._loop import Training
from antibackdoor.training._pack import pack, unpack
from antibackdoor.training._parallel import current_team
from antibackdoor.training._sealed import ENDING, DamagedError, read_head, read_sealed, seal
from antibackdoor.utils import HISTORY, require, write_whole
from antibackdoor.utils._random import random_states, restore_random_states

_logger = logging.getLogger("antibackdoor")

# Errors of file systems without locks, or without space for a lock file.
_NO_LOCKS = (
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.ENOLCK,
    errno.ENOSPC,
    errno.EDQUOT,
)

#: Names of the files of a store, and of incomplete ones of killed processes.
OWN_FILES = re.compile(
    rf"[\w-]+-[0-9a-f]{{32}}(\.lock|{re.escape(ENDING)}(\.[0-9]+\.part)?|\.json(\.[0-9]+\.part)?)"
)


@dataclass
class Progress:
    """The progress of a phase.

    Attributes
    ----------
    history : list of dict
        One entry for each finished epoch.
    losses : list of torch.Tensor of shape (n_samples,)
        Losses of each finished epoch, if the phase keeps them.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    finished: bool = False


class PhaseStore:
    """The folder of `cache_dir`: phases of training, named by a digest of their inputs.

    A stored phase is not trained again: a finished one gives its result, and one that was stopped
    continues after its last epoch. So a fit that was killed resumes when it is started again.
    Fits that begin alike, such as those of a grid search, train their common phases once. Several
    fits may share a folder at a time: the first one that needs a phase trains it, and the others
    wait.

    Parameters
    ----------
    directory : str or path
        Created if missing.

    Raises
    ------
    ImportError
        If the packages of the extra ``[persist]`` are not installed.
    OSError
        If the folder cannot be created.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        require("cache_dir=", "persist", "filelock", "safetensors")
        self._directory = Path(directory).expanduser()
        self._warned = False
        current_team().from_first(lambda: self._directory.mkdir(parents=True, exist_ok=True))

    @contextmanager
    def seeds(self, identity: dict[str, Any], drawn: list[int]) -> Iterator[list[int]]:
        """Yield the seeds of a fit without a random state: those of a killed fit, if any.

        Parameters
        ----------
        identity : dict
            The identity of the fit without its seeds.
        drawn : list of int
            New seeds, used if there was no killed fit.
        """
        path = self._directory / f"seeds-{_digest(identity)}.json"
        with self._locked(path, wait=False) as ours:
            if not ours:  # an equal fit is running: this one gets its own seeds
                yield drawn
                return
            seeds = current_team().from_first(lambda: _read_seeds(path) or drawn)
            self._write(path, json.dumps(seeds).encode())
            try:
                yield seeds
            except KeyboardInterrupt:
                raise  # the seeds stay, for resuming
            except BaseException:
                self._remove(path)  # the same seeds would lead there again
                raise
            self._remove(path)

    @contextmanager
    def open(self, name: str, identity: dict[str, Any]) -> Iterator[StoredPhase]:
        """Yield a stored phase, which no other fit trains meanwhile.

        Parameters
        ----------
        name : str
            Name of the phase.
        identity : dict of str to str
            Everything that its result depends on.
        """
        stem = re.sub(r"\W+", "_", name)
        path = self._directory / f"{stem}-{_digest(identity)}{ENDING}"
        with self._locked(path, wait=True):
            content = current_team().from_first(lambda: self._read(path, identity))
            if content is None and current_team().rank == 0:
                self._tell_nearest(stem, identity)
            yield StoredPhase(self, path, identity, content)

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file, on the first process; if that fails, warn once and continue."""
        if current_team().rank > 0:
            return
        try:
            write_whole(path, content)
        except OSError as error:
            if not self._warned:
                warnings.warn(
                    f"the training continues, but it could not be written to cache_dir: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self._warned = True

    def _remove(self, path: Path) -> None:
        if current_team().rank == 0:
            path.unlink(missing_ok=True)

    def _read(self, path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
        """Return the stored state of a phase; None if there is none, or it is damaged."""
        try:
            text, tensors = read_sealed(path)
            content = unpack(text, tensors)
            # The digest does not protect against someone who writes the file on purpose.
            if content["identity"] != identity:
                raise DamagedError("it is of another phase than its name says")
        except FileNotFoundError:
            return None
        except (
            AttributeError,
            DamagedError,
            KeyError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            _tell_damage(path, error)
            return None
        return content

    def _tell_nearest(self, stem: str, identity: dict[str, Any]) -> None:
        """Log how this phase differs from the nearest stored one of its name, if any."""
        nearest: list[str] | None = None
        for path in self._directory.glob(f"{stem}-*{ENDING}"):
            try:
                then = json.loads(read_head(path)["identity"])
                differences = [key for key in identity if then.get(key) != identity[key]]
            except (AttributeError, DamagedError, KeyError, OSError, ValueError):
                continue
            if nearest is None or len(differences) < len(nearest):
                nearest = differences
        if nearest:
            _logger.info(
                "cache_dir=%r holds no phase %r of this fit; the nearest differs in: %s",
                str(self._directory),
                stem,
                ", ".join(nearest),
            )

    @contextmanager
    def _locked(self, path: Path, *, wait: bool) -> Iterator[bool]:
        """Lock a file for the block; yield whether that was possible.

        With several processes of a fit the first one locks. On a file system without locks or
        space there is no lock: a phase may then be trained twice, with the same result.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(path.with_suffix(".lock"), fallback_to_soft=False)

        def acquire() -> bool:
            try:
                lock.acquire(timeout=-1 if wait else 0)
            except Timeout:
                return False
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            return True

        try:
            yield current_team().from_first(acquire)
        finally:
            lock.release()


class StoredPhase:
    """One phase in a store.

    Parameters
    ----------
    store : PhaseStore or None
        None: nothing is saved.
    content : dict or None
        The stored state, if any.
    """

    def __init__(
        self,
        store: PhaseStore | None = None,
        path: Path = Path(),
        identity: dict[str, Any] | None = None,
        content: dict[str, Any] | None = None,
    ) -> None:
        self._store = store
        self._path = path
        self._identity = identity
        self._content = content

    def resume(self, training: Training) -> Progress:
        """Restore a training at the point where it was stopped.

        Returns
        -------
        Progress
            Empty if it had not begun, or if what is stored does not fit the training, which is
            then as it was.
        """
        if self._content is None:
            return Progress()
        # A state that does not fit may have been restored in part.
        before = copy.deepcopy(training.state()), random_states(training.generator)
        try:
            training.restore(self._content["training"])
            restore_random_states(training.generator, self._content["random"])
            return _progress(self._content["progress"], training)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            training.restore(before[0])
            restore_random_states(training.generator, before[1])
            _tell_damage(self._path, f"it does not fit the phase that it is of: {error}")
            return Progress()

    def save(self, progress: Progress, training: Training) -> None:
        """Save the progress of the phase."""
        if self._store is None or current_team().rank > 0:
            return
        text, tensors = pack(
            {
                "identity": self._identity,
                "progress": vars(progress),
                "random": random_states(training.generator),
                "training": training.result() if progress.finished else training.state(),
            }
        )
        content = seal(text, tensors, {"identity": json.dumps(self._identity)})
        self._store._write(self._path, content)


def _progress(content: dict[str, Any], training: Training) -> Progress:
    """Return the progress that a file tells.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is not that of such a training.
    """
    progress = Progress(**content)
    fault = HISTORY.fault(progress.history, None)
    if fault is not None:
        raise ValueError(f"its history {fault}")
    # Files are read to the CPU, but the losses of later epochs are on the rows' device.
    progress.losses = [losses.to(training.generator.device) for losses in progress.losses]
    wanted = (len(training.samples),)
    if any(losses.shape != wanted for losses in progress.losses):
        raise ValueError(f"its losses have not the shape {wanted}")
    return progress


def _tell_damage(path: Path, why: object) -> None:
    warnings.warn(
        f"{path} is damaged ({why}); this phase is trained again.", RuntimeWarning, stacklevel=3
    )


def _digest(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _read_seeds(path: Path) -> list[int] | None:
    try:
        seeds = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return seeds if isinstance(seeds, list) and all(type(seed) is int for seed in seeds) else None
