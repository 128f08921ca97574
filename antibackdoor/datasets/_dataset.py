"""A data set with a training and a test part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

#: Largest number of names in a message; the rest is counted.
_MOST_NAMES = 10


# eq=False: a generated __eq__ would raise, since arrays have no single truth value.
@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test part of a classification task, checked to be consistent.

    `load_dataset` returns one::

        digits = load_dataset("digits")
        clf.fit(digits.X_train, digits.y_train).score(digits.X_test, digits.y_test)

    Both parts have rows of one shape and dtype and a label for each row. Every class of the test
    part is in the training part.

    Attributes
    ----------
    X_train, X_test : ndarray of shape (n, H, W), (n, H, W, C) or (n, n_features)
        Rows; uint8 images in the named data sets.
    y_train, y_test : ndarray of shape (n,)
        Labels; int64 from 0 on in the named data sets.
    class_names : tuple of str
        Name of each class, in the order of the sorted labels.

    Raises
    ------
    ValueError
        If the parts are not consistent.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.datasets import Dataset
    >>> X, y = np.zeros((4, 8, 8), dtype=np.uint8), np.array([0, 1, 0, 1])
    >>> Dataset(X[:2], y[:2], X[2:], y[2:], class_names=("cat", "dog")).X_test.shape
    (2, 8, 8)
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        check_lengths("X_train", self.X_train, "y_train", self.y_train)
        check_lengths("X_test", self.X_test, "y_test", self.y_test)
        if self.X_train.shape[1:] != self.X_test.shape[1:]:
            raise ValueError(
                f"X_train has rows of shape {self.X_train.shape[1:]}, but X_test has rows of "
                f"shape {self.X_test.shape[1:]}; wanted the same in both."
            )
        if self.X_train.dtype != self.X_test.dtype:
            # uint8 and floats together usually means values to 255 in one and to 1 in the other.
            raise ValueError(
                f"X_train is {self.X_train.dtype}, but X_test is {self.X_test.dtype}; wanted "
                f"one dtype, and with it one range of values."
            )
        check_classes("y_train", self.y_train)
        _check_known(self.y_train, self.y_test)


def hold_out(X: np.ndarray, y: np.ndarray, class_names: tuple[str, ...]) -> Dataset:
    """Hold out a quarter of the rows, stratified by class, as the test part.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
    y : ndarray of shape (n,)

    Returns
    -------
    Dataset
        The same split every time.

    Raises
    ------
    ValueError
        If there are too few rows to have each class in both parts.
    """
    check_lengths("X", X, "y", y)
    check_classes("y", y)
    try:
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=0.25, stratify=y, random_state=0
        )
    except ValueError as error:
        raise ValueError(f"no quarter of X and y can be held out for testing: {error}") from error
    return Dataset(X_train, y_train, X_test, y_test, class_names)


def listed(names: Sequence[Any]) -> str:
    """Return names for a message; of many, the first ones and the number of the others."""
    shown = ", ".join(repr(name) for name in names[:_MOST_NAMES])
    hidden = len(names) - _MOST_NAMES
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def check_lengths(X_name: str, X: np.ndarray, y_name: str, y: np.ndarray) -> None:
    """Raise ValueError unless there are rows, and as many labels."""
    if len(X) != len(y):
        raise ValueError(f"{X_name} has {len(X)} rows, but {y_name} has {len(y)} labels.")
    if X.size == 0:
        raise ValueError(f"{X_name} has shape {X.shape}: there is nothing in it.")


def check_classes(y_name: str, y: np.ndarray) -> None:
    """Raise ValueError unless there are two classes or more."""
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(f"{y_name} holds one class, {classes[0].item()!r}; wanted two or more.")


def _check_known(y_train: np.ndarray, y_test: np.ndarray) -> None:
    # numpy compares the number 1 and the string "1" as strings, as equal.
    if (y_train.dtype.kind == "U") != (y_test.dtype.kind == "U"):
        raise ValueError(
            f"y_train is {y_train.dtype}, but y_test is {y_test.dtype}; wanted strings in both "
            f"or in neither."
        )
    classes = np.unique(y_train)
    unknown = np.setdiff1d(y_test, classes)
    if len(unknown):
        raise ValueError(
            f"y_test holds labels that y_train lacks: {listed(unknown.tolist())}; wanted none "
            f"but {listed(classes.tolist())}."
        )
