"""A data set in two parts that go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

#: How many names a message lists before it only counts the rest.
_MOST_NAMES = 10


# eq=False: arrays have no single truth value, so a generated __eq__ could only raise.
@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test part of a classification task.

    One that exists is consistent: both parts have rows of one shape and dtype, a
    label for each, and the test part no class that the training part lacks.

    Attributes
    ----------
    X_train, X_test : ndarray of shape (n, H, W), (n, H, W, C) or (n, n_features)
        Rows; uint8 images in the data sets that have a name.
    y_train, y_test : ndarray of shape (n,)
        Labels; int64 from 0 on in the data sets that have a name.
    class_names : tuple of str
        Name of each class, in the order of the sorted labels.

    Raises
    ------
    ValueError
        If the parts do not go together.
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
            # Bytes beside floats are most often 0 to 255 beside 0 to 1.
            raise ValueError(
                f"X_train is {self.X_train.dtype}, but X_test is {self.X_test.dtype}; wanted "
                f"one dtype, and with it one range of values."
            )
        check_classes("y_train", self.y_train)
        _check_known(self.y_train, self.y_test)


def hold_out(X: np.ndarray, y: np.ndarray, class_names: tuple[str, ...]) -> Dataset:
    """Make a quarter of the rows, with each class's share of it, the test part.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
    y : ndarray of shape (n,)
    class_names : tuple of str

    Returns
    -------
    Dataset
        The same one every time.

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
    """Names for a message, and the number of those left out if they are many."""
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
    # numpy compares the number 1 and the string "1" as strings, and takes them for equal.
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
