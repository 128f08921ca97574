"""Anyone's arrays from .npz and .npy files."""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite

from antibackdoor.datasets._dataset import (
    Dataset,
    check_classes,
    check_lengths,
    hold_out,
    listed,
)

_TWO_PARTS = ("X_train", "y_train", "X_test", "y_test")
_ONE_PART = ("X", "y")
_MAGIC = b"\x93NUMPY"
#: What zipfile and numpy raise for bytes that are not what they should be, beside ValueError.
#: MemoryError: of a header that promises more than there is.
_DAMAGE = (
    OSError,
    EOFError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def load_npz(path: Path) -> Dataset:
    """Load ``X_train``, ``y_train``, ``X_test`` and ``y_test``, or ``X`` and ``y``.

    Of ``X`` and ``y`` alone a quarter is held out, class by class and the same one
    every time. Other arrays in the file are left alone. Nothing in it is run:
    arrays of Python objects, which are pickles, are refused.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Dataset
        Rows and labels as they are in the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read, or the arrays are not what is wanted.
    """
    _check_is_file("name", path)
    return _to_dataset(_read_npz(path))


def load_arrays(
    path: str | os.PathLike[str], labels_path: str | os.PathLike[str] | None = None
) -> dict[str, np.ndarray]:
    """Load all the arrays of a data set as they are: nothing is held out for testing.

    Nothing in the files is run: arrays of Python objects, which are pickles, are refused.

    Parameters
    ----------
    path : str or path
        An ``.npz`` file with ``X`` and ``y``, or with ``X_train``, ``y_train``, ``X_test`` and
        ``y_test``; the last two may be missing. Or an ``.npy`` file of the rows.
    labels_path : str or path, default=None
        The ``.npy`` file of the labels, where `path` is one of the rows.

    Returns
    -------
    dict of str to ndarray
        By these names; ``X`` and ``y`` of ``.npy`` files.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If one cannot be read, or the arrays are not what is wanted.

    Examples
    --------
    >>> from antibackdoor.datasets import load_arrays
    >>> load_arrays("X.npy", "y.npy")["X"].shape  # doctest: +SKIP
    """
    rows_file = Path(path).expanduser()
    _check_is_file("path", rows_file)
    try:
        if labels_path is None:
            arrays = _read_npz(rows_file, test_part=False)
        else:
            labels_file = Path(labels_path).expanduser()
            _check_is_file("labels_path", labels_file)
            arrays = _check_arrays({"X": _read_npy(rows_file), "y": _read_npy(labels_file)})
        for X_name, y_name in (("X", "y"), ("X_train", "y_train"), ("X_test", "y_test")):
            if X_name in arrays:
                check_lengths(X_name, arrays[X_name], y_name, arrays[y_name])
        # The same promises as of a data set that is loaded by name.
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
    # numpy takes what is no array for a pickle, and its message says how to run it.
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError(f"{path.name} is no .npy file; wanted what numpy.save writes.")
    try:
        return np.load(path, allow_pickle=False)
    except ValueError as error:
        raise _explain(path.name, error) from error
    except _DAMAGE as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def _read_npz(path: Path, *, test_part: bool = True) -> dict[str, np.ndarray]:
    # numpy takes what is no archive for a pickle, and its message says how to run it.
    with path.open("rb") as file:
        is_archive = zipfile.is_zipfile(file)
    if not is_archive:
        raise ValueError(
            "this is no .npz file, or the end of it is missing; wanted what numpy.savez or "
            "numpy.savez_compressed writes."
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = _choose_names(archive.files, test_part)
            arrays = {name: _read_array(archive, name) for name in names}
    except _DAMAGE as error:
        raise ValueError(f"the file is damaged: {error}") from error
    return _check_arrays(arrays)


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


def _read_array(archive: Any, name: str) -> np.ndarray:
    try:
        array = archive[name]
    except ValueError as error:
        raise _explain(name, error) from error
    # numpy hands out the bytes of a member that does not begin as an array does.
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} is no array, but {len(array)} bytes of something else.")
    return array


def _explain(name: str, error: ValueError) -> ValueError:
    """Say of numpy's refusal of a pickle what it means, and not how to go round it."""
    if "allow_pickle" not in str(error):
        return ValueError(f"{name} cannot be read: {error}")
    return ValueError(
        f"{name} is an array of Python objects, which is a pickle: reading it could run any "
        f"code, so it is refused; wanted numbers, or for labels strings "
        f"(np.asarray(..., dtype=str))."
    )


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
