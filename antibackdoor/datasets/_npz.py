"""Loaders of arrays in .npz and .npy files."""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from sklearn.utils import assert_all_finite

from antibackdoor.datasets._dataset import (
    Dataset,
    check_classes,
    check_lengths,
    hold_out,
    listed,
)
from antibackdoor.utils import check_count
from antibackdoor.utils._npy import read_array_header

_TWO_PARTS = ("X_train", "y_train", "X_test", "y_test")
_ONE_PART = ("X", "y")
_MAGIC = b"\x93NUMPY"
#: Errors of zipfile and numpy for damaged bytes, besides ValueError. MemoryError comes from a
#: header that claims more data than there is.
_DAMAGE = (
    NotImplementedError,
    OSError,
    EOFError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


#: Default limit of the memory of arrays: 4 GiB, as for a model.
MAX_BYTES = 4 * 2**30

#: Largest number of members: zipfile keeps some hundred bytes for each.
_MAX_MEMBERS = 100_000
_ENTRY = b"PK\x01\x02"
_CHUNK = 2**20

#: Memory of a text label in a list, besides its letters.
_BYTES_OF_A_LABEL = 128


def load_npz(path: Path) -> Dataset:
    """Load ``X_train``, ``y_train``, ``X_test`` and ``y_test``, or ``X`` and ``y``.

    Of ``X`` and ``y`` only, a quarter of each class is held out, the same one every time. Other
    arrays in the file are ignored. No code in it is run: arrays of Python objects, which are
    pickles, are refused. Arrays that need more memory than both 4 GiB and the length of the file
    are refused before memory is allocated.

    Returns
    -------
    Dataset
        Rows and labels as in the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read, or the arrays are not valid.
    """
    _check_is_file("name", path)
    return _to_dataset(_read_npz(path, MAX_BYTES))


def load_arrays(
    path: str | os.PathLike[str],
    labels_path: str | os.PathLike[str] | None = None,
    *,
    max_bytes: int = MAX_BYTES,
) -> dict[str, np.ndarray]:
    """Load the arrays of a data set from .npz or .npy files; nothing is held out for testing.

    No code in the files is run: arrays of Python objects, which are pickles, are refused.

    Parameters
    ----------
    path : str or path
        An ``.npz`` file with ``X`` and ``y``, or with ``X_train``, ``y_train``, ``X_test`` and
        ``y_test``; the last two may be missing. Or an ``.npy`` file of the rows.
    labels_path : str or path, default=None
        The ``.npy`` file of the labels, if `path` is an ``.npy`` file.
    max_bytes : int, default=4 GiB
        Largest memory of the arrays, in bytes. A longer file may take as much as its own length,
        which is enough for files without compression.

    Returns
    -------
    dict of str to ndarray
        Arrays by these names; ``X`` and ``y`` for ``.npy`` files.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file cannot be read or needs more than `max_bytes`, or if the arrays are not valid.
    TypeError
        If `max_bytes` is no whole number.

    Examples
    --------
    >>> from antibackdoor.datasets import load_arrays
    >>> load_arrays("X.npy", "y.npy")["X"].shape  # doctest: +SKIP
    """
    max_bytes = check_count("max_bytes", max_bytes)
    rows_file = Path(path).expanduser()
    _check_is_file("path", rows_file)
    try:
        if labels_path is None:
            arrays = _read_npz(rows_file, max_bytes, test_part=False)
        else:
            labels_file = Path(labels_path).expanduser()
            _check_is_file("labels_path", labels_file)
            arrays = _check_arrays({"X": _read_npy(rows_file), "y": _read_npy(labels_file)})
        for X_name, y_name in (("X", "y"), ("X_train", "y_train"), ("X_test", "y_test")):
            if X_name in arrays:
                check_lengths(X_name, arrays[X_name], y_name, arrays[y_name])
        # The same checks as for a data set that is loaded by name.
        y_name = "y" if "y" in arrays else "y_train"
        check_classes(y_name, arrays[y_name])
    except ValueError as error:
        raise ValueError(f"path={str(path)!r}: {error}") from error
    return arrays


def _check_is_file(argument: str, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(
            f"{argument}={str(path)!r}: there is no such file; a relative path starts from the "
            f"working directory, which is {str(Path.cwd())!r}."
        )


def _read_npy(path: Path) -> np.ndarray:
    # numpy treats other files as pickles, and its message says how to run them.
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError(f"{path.name} is no .npy file; wanted what numpy.save writes.")
    try:
        with path.open("rb") as file:
            return _read_array(path.name, file, path.stat().st_size)
    except _DAMAGE as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def _read_npz(path: Path, max_bytes: int, *, test_part: bool = True) -> dict[str, np.ndarray]:
    # numpy treats other files as pickles, and its message says how to run them.
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(
                "this is no .npz file, or the end of it is missing; wanted what numpy.savez or "
                "numpy.savez_compressed writes."
            )
        _check_members(file)
        try:
            with zipfile.ZipFile(file) as archive:
                # An array has the name of its member, as in numpy.
                members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
                names = _choose_names(list(members), test_part)
                chosen = {name: members[name] for name in names}
                _check_memory(archive, chosen, max(max_bytes, path.stat().st_size))
                arrays = {name: _read_member(archive, name, chosen[name]) for name in names}
        except _DAMAGE as error:
            raise ValueError(f"the file is damaged: {error}") from error
    return _check_arrays(arrays)


def _check_members(file: IO[bytes]) -> None:
    """Count the entries of an archive's directory, all of which zipfile reads when it opens it."""
    file.seek(0)
    n_members, end = 0, b""
    while chunk := file.read(_CHUNK):
        n_members += (end + chunk).count(_ENTRY)
        end = chunk[1 - len(_ENTRY) :]
    if n_members > _MAX_MEMBERS:
        raise ValueError(f"the file has more than {_MAX_MEMBERS} members.")


def _check_memory(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], most: int) -> None:
    """Refuse arrays that need more memory than allowed: a few bytes may unpack to any size."""
    n_bytes = 0
    for name, member in members.items():
        # With other methods the file determines how much memory unpacking takes.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(
                f"{name} is compressed by method {member.compress_type}; wanted stored or "
                f"deflated, as numpy writes."
            )
        n_bytes += member.file_size
        with archive.open(member) as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                continue  # refused when it is read
            file.seek(0)
            shape, dtype = _read_header(name, file, member.file_size)
        if dtype.kind in "SU":
            n_bytes += math.prod(shape) * _BYTES_OF_A_LABEL
    if n_bytes > most:
        raise ValueError(
            f"{listed(list(members))} take {n_bytes} bytes of memory, more than max_bytes={most}; "
            f"if you trust the file, give load_arrays a larger max_bytes, or write it without "
            f"compression (numpy.savez)."
        )


def _choose_names(names: list[str], test_part: bool) -> tuple[str, ...]:
    if set(_ONE_PART) <= set(names) and not set(_TWO_PARTS) & set(names):
        return _ONE_PART
    if not test_part and not {"X_test", "y_test"} & set(names):
        wanted = _TWO_PARTS[:2]
        if set(wanted) <= set(names):
            return wanted
    missing = [name for name in _TWO_PARTS if name not in names]
    if missing:
        raise ValueError(
            f"the file lacks {listed(missing)}; wanted {listed(_TWO_PARTS)}, or 'X' and 'y' and "
            f"none of these. It holds {listed(names) or 'nothing'}."
        )
    return _TWO_PARTS


def _read_member(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        array = _read_array(name, file, member.file_size)
        # zipfile checks the checksum only when a member is read to its end.
        if file.read(1):
            raise ValueError(f"{name} goes on where its array ends.")
    return array


def _read_array(name: str, file: IO[bytes], n_bytes: int) -> np.ndarray:
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError(f"{name} is no array, but {n_bytes} bytes of something else.")
    file.seek(0)
    _, dtype = _read_header(name, file, n_bytes)
    if dtype.hasobject:
        raise ValueError(
            f"{name} is an array of Python objects, which is a pickle: reading it could run any "
            f"code, so it is refused; wanted numbers, or for labels strings "
            f"(np.asarray(..., dtype=str))."
        )
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)


def _read_header(name: str, file: IO[bytes], n_bytes: int) -> tuple[tuple[int, ...], np.dtype]:
    try:
        return read_array_header("it", file, n_bytes)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read: {error}.") from error


def _check_arrays(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for name, array in arrays.items():
        check = _check_rows if name.startswith("X") else _check_labels
        check(name, array)
    return arrays


def _check_rows(name: str, X: np.ndarray) -> None:
    if X.dtype.kind not in "biuf":
        raise ValueError(f"{name} is {X.dtype}; wanted whole or floating-point numbers.")
    if X.ndim not in (2, 3, 4):
        raise ValueError(
            f"{name} has shape {X.shape}; wanted (n, H, W), (n, H, W, C), (n, C, H, W) or "
            f"(n, n_features)."
        )
    assert_all_finite(X, input_name=name)


def _check_labels(name: str, y: np.ndarray) -> None:
    if y.ndim != 1:
        raise ValueError(f"{name} has shape {y.shape}; wanted one label a row, shape (n,).")
    if y.dtype.kind not in "biuU":
        raise ValueError(f"{name} is {y.dtype}; wanted whole numbers, booleans or strings.")


def _to_dataset(arrays: dict[str, np.ndarray]) -> Dataset:
    labels = arrays["y" if "y" in arrays else "y_train"]
    class_names = tuple(str(label) for label in np.unique(labels))
    if "y" in arrays:
        return hold_out(arrays["X"], arrays["y"], class_names)
    return Dataset(**arrays, class_names=class_names)
