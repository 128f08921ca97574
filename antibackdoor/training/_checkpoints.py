"""What a fit needs to go on after it was stopped, kept in a directory."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from antibackdoor.training._loop import Training
from antibackdoor.training._pack import pack, unpack
from antibackdoor.training._parallel import current_team
from antibackdoor.utils import random_states, require, restore_random_states, write_whole

if TYPE_CHECKING:
    from filelock import BaseFileLock

# Of the layout of the files.
_FORMAT = 2
_N_KEPT = 2
_ENDING = ".safetensors"
# Names of the file that is locked, and of the one that stands for it where nothing can be.
_LOCK, _HELD = "lock", "lock.held"
# How a file system says that it has no locks.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)
# In place of the digest, while it is computed.
_BLANK = "0" * 64


@dataclass
class Progress:
    """How far a phase has come.

    Attributes
    ----------
    name : str
        Of the phase, and which of that name it is: ``"examine 1"``.
    history : list of dict
        A row for each epoch that is over.
    losses : list of torch.Tensor of shape (n_samples,)
        Of each such epoch, if the phase keeps them.
    finished : bool
    """

    name: str
    history: list[dict[str, Any]] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    finished: bool = False


class Checkpoints:
    """A fit that is written down after every epoch, and found again.

    A fit that goes on is a fit that begins anew: every phase that was finished takes its result
    from the checkpoint instead of training, and the one that was stopped takes its state. What
    lies between phases is computed again, from the same generators.

    Parameters
    ----------
    directory : Path
        Locked by `open_checkpoints`.
    newest : dict or None
        Content of the checkpoint to go on from.
    number : int
        Of the last checkpoint that is there.
    """

    def __init__(self, directory: Path, newest: dict[str, Any] | None, number: int) -> None:
        self._directory = directory
        self._newest = newest
        self._number = number
        self._seen: Counter[str] = Counter()
        self._identity: dict[str, Any] = {}
        # Of this fit: phases that are over, and where each stood at its end.
        self._phases: dict[str, dict[str, Any]] = {}
        self._warned = False

    @property
    def seeds(self) -> list[int] | None:
        """Seeds of the fit to go on with; None where there is none."""
        return None if self._newest is None else self._newest["identity"]["seeds"]

    @property
    def phases(self) -> list[str]:
        """Names of the phases that the fit to go on with has begun."""
        return [] if self._newest is None else list(self._newest["phases"])

    def begin(self, identity: dict[str, Any]) -> None:
        """Say which fit this is.

        Parameters
        ----------
        identity : dict
            Text, numbers, and dicts and lists of them; ``"seeds"`` is a list of int.

        Raises
        ------
        ValueError
            If the directory is of another fit.
        """
        # As it would be read again.
        self._identity = json.loads(json.dumps(identity))
        then = self._identity if self._newest is None else self._newest["identity"]
        if then != self._identity:
            differences = "; ".join(_differences(then, self._identity))
            raise ValueError(
                f"checkpoint_dir={str(self._directory)!r} holds a checkpoint of another fit: "
                f"{differences}. Set these as they were to go on, give another directory, or "
                f"delete this one to train anew."
            )

    def resume(self, name: str, training: Training) -> Progress:
        """Bring a training to where the phase of this name was stopped.

        Returns
        -------
        Progress
            Of nothing, where it had not begun.

        Raises
        ------
        ValueError
            If what is stored does not fit the training.
        """
        key = f"{name} {self._seen[name]}"
        self._seen[name] += 1
        stored = None if self._newest is None else self._newest["phases"].get(key)
        if stored is None:
            return Progress(key)
        try:
            training.restore(stored["training"])
            restore_random_states(training.generator, stored["random"])
            progress = Progress(key, **stored["progress"])
            # A file is read into the memory of the CPU; the losses to come are where the rows are.
            device = training.generator.device
            progress.losses = [losses.to(device) for losses in progress.losses]
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"checkpoint_dir={str(self._directory)!r} holds a checkpoint whose phase {key!r} "
                f"does not fit this network: {error}"
            ) from error
        self._phases[key] = stored
        return progress

    def save(self, progress: Progress, training: Training) -> None:
        """Write down how far a phase has come.

        Where it cannot be written, a warning says so, once, and the training goes on: the last
        checkpoint that could be is still there. Of several processes the first writes.
        """
        if current_team().rank > 0:
            return
        self._phases[progress.name] = {
            "progress": {
                "history": progress.history,
                "losses": progress.losses,
                "finished": progress.finished,
            },
            "random": random_states(training.generator),
            # What is over stays as it is now; the network may go on to be trained.
            "training": copy.deepcopy(training.result()) if progress.finished else training.state(),
        }
        content = _encode({"identity": self._identity, "phases": self._phases})
        self._number += 1
        try:
            write_whole(_path(self._directory, self._number), content)
        except OSError as error:
            if not self._warned:
                warnings.warn(
                    f"the training goes on, but a checkpoint could not be written: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self._warned = True
            return
        for _, path in _files(self._directory)[_N_KEPT:]:
            path.unlink(missing_ok=True)


@contextmanager
def open_checkpoints(directory: str | os.PathLike[str]) -> Iterator[Checkpoints]:
    """Lock a directory of checkpoints, made if it is not there, for the block.

    Of several processes of a fit the first locks and reads it, and tells the others.

    Parameters
    ----------
    directory : str or path

    Yields
    ------
    Checkpoints

    Raises
    ------
    ImportError
        Where the packages of the extra ``[persist]`` are not installed.
    ValueError
        If another fit uses the directory, or its newest checkpoint is of another layout.
    OSError
        If it cannot be made or read.
    """
    path = Path(directory)
    with ExitStack() as stack:
        newest, number = current_team().from_first(lambda: stack.enter_context(_locked(path)))
        yield Checkpoints(path, newest, number)


@contextmanager
def _locked(path: Path) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """Give what the newest checkpoint holds, and its number."""
    require("checkpoint_dir=", "persist", "filelock", "safetensors")
    path.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        # What a killed process had begun to write: nobody else writes here.
        for left in path.glob(f"*{_ENDING}.*.part"):
            if left.is_file():
                left.unlink(missing_ok=True)
        files = _files(path)
        yield _newest(files), files[0][0] if files else 0
    finally:
        lock.release()


def _lock(path: Path) -> BaseFileLock:
    """Lock a directory, or refuse it where another fit has done so."""
    from filelock import FileLock, SoftFileLock, Timeout

    lock: BaseFileLock = FileLock(path / _LOCK, fallback_to_soft=False)
    advice = ""
    try:
        try:
            # Freed by the system where this process is killed.
            lock.acquire(timeout=0)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            # The file is there as long as the lock is held, and says by which process. That of a
            # dead process of this machine is taken over, which can take more than one try.
            lock = SoftFileLock(path / _HELD)
            advice = (
                f" This file system has no locks; if no fit is running, delete "
                f"{str(path / _HELD)!r}, which one that was killed has left."
            )
            lock.acquire(timeout=1, poll_interval=0.05)
    except Timeout as error:
        raise ValueError(
            f"checkpoint_dir={str(path)!r} is in use by another fit; give each a directory of its "
            f"own.{advice}"
        ) from error
    return lock


class _DamagedError(Exception):
    """A file is not what was written."""


def _newest(files: list[tuple[int, Path]]) -> dict[str, Any] | None:
    """Return the content of the newest file that is undamaged."""
    for _, path in files:
        try:
            return _decode(path)
        except _DamagedError as error:
            warnings.warn(
                f"{path} is damaged ({error}); the checkpoint before it is used, if there is one.",
                RuntimeWarning,
                stacklevel=4,
            )
    return None


def _path(directory: Path, number: int) -> Path:
    return directory / f"checkpoint-{number:08d}{_ENDING}"


def _files(directory: Path) -> list[tuple[int, Path]]:
    """Return checkpoints with their numbers, newest first."""
    numbered = (
        (path.name.removeprefix("checkpoint-").removesuffix(_ENDING), path)
        for path in directory.glob(f"checkpoint-*{_ENDING}")
    )
    return sorted(((int(number), path) for number, path in numbered if number.isdigit()))[::-1]


def _encode(content: dict[str, Any]) -> bytes:
    from safetensors.torch import save

    text, tensors = pack(content)
    return _seal(save(tensors, {"format": str(_FORMAT), "content": text, "digest": _BLANK}))


def _seal(blank: bytes) -> bytes:
    """Put into a file, in place of `_BLANK`, the digest of all its bytes."""
    return _with_digest(blank, _BLANK, hashlib.sha256(blank).hexdigest())


def _with_digest(raw: bytes, then: str, now: str) -> bytes:
    # It is the only entry of this name: in the content, which is text, quotes are escaped.
    end = 8 + int.from_bytes(raw[:8], "little")
    old, new = (f'"digest":"{digest}"'.encode() for digest in (then, now))
    return raw[:end].replace(old, new) + raw[end:]


def _decode(path: Path) -> dict[str, Any]:
    """Read a checkpoint, whose every byte is as it was written."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    raw = path.read_bytes()
    metadata = _metadata(raw)
    if metadata.get("format", str(_FORMAT)) != str(_FORMAT):
        raise ValueError(
            f"{path} is a checkpoint of layout {metadata['format']!r}; this version of "
            f"antibackdoor reads layout {_FORMAT}."
        )
    digest = str(metadata.get("digest"))
    if hashlib.sha256(_with_digest(raw, digest, _BLANK)).hexdigest() != digest:
        raise _DamagedError("its digest is not that of its bytes")
    try:
        content = unpack(str(metadata.get("content")), load(raw))
        # Whoever writes a file can write its digest too.
        if not isinstance(content["phases"], dict):
            raise ValueError("it has no phases")
        if not all(isinstance(seed, int) for seed in content["identity"]["seeds"]):
            raise ValueError("its seeds are no whole numbers")
    except (
        AttributeError,
        KeyError,
        RecursionError,
        SafetensorError,
        TypeError,
        ValueError,
    ) as error:
        raise _DamagedError(f"its content is none of a checkpoint: {error}") from error
    return content


def _metadata(raw: bytes) -> dict[str, Any]:
    """Return what the head of a file says beside its tensors."""
    try:
        head = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        return dict(head["__metadata__"])
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise _DamagedError(f"it does not begin as a checkpoint does: {error}") from error


def _differences(then: Any, now: Any, name: str = "") -> Iterator[str]:
    """Say where two identities differ."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted({*then, *now}):
            inner = f"{name}.{key}" if name else key
            yield from _differences(then.get(key), now.get(key), inner)
    elif then != now:
        yield f"{name} was {then!r} and is {now!r}"
