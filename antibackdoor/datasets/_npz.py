"""Anyone's arrays from an .npz file."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite

from antibackdoor.datasets._dataset import Dataset, hold_out, listed

_TWO_PARTS = ("X_train", "y_train", "X_test", "y_test")
_ONE_PART = ("X", "y")
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
    if not path.is_file():
        raise FileNotFoundError(
            f"name={str(path)!r}: there is no such file; a relative path starts from the "
            f"working directory, which is {str(Path.cwd())!r}."
        )
    arrays = _read_arrays(path)
    for name, array in arrays.items():
        check = _check_rows if name.startswith("X") else _check_labels
        check(name, array)
    return _to_dataset(arrays)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
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
            return {name: _read_array(archive, name) for name in _choose_names(archive.files)}
    except _DAMAGE as error:
        raise ValueError(f"the file is damaged: {error}") from error


def _choose_names(names: list[str]) -> tuple[str, ...]:
    if set(_ONE_PART) <= set(names) and not set(_TWO_PARTS) & set(names):
        return _ONE_PART
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
        if "allow_pickle" not in str(error):
            raise ValueError(f"{name} cannot be read: {error}") from error
        raise ValueError(
            f"{name} is an array of Python objects, which is a pickle: reading it could run any "
            f"code, so it is refused; wanted numbers, or for labels strings "
            f"(np.asarray(..., dtype=str))."
        ) from error
    # numpy hands out the bytes of a member that does not begin as an array does.
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} is no array, but {len(array)} bytes of something else.")
    return array


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
