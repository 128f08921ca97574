"""Label maps: the label that an attacker wants for each triggered row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from antibackdoor.utils import as_labels
from antibackdoor.utils._labels import shorten

#: ``map(codes, classes, target_label)`` takes and returns positions in the sorted classes. Rows
#: whose position does not change are not poisoned.
LabelMap = Callable[[np.ndarray, np.ndarray, Any], np.ndarray]


def all_to_one(codes: np.ndarray, classes: np.ndarray, target_label: Any) -> np.ndarray:
    """Map every class to the target."""
    return np.full_like(codes, find_class(classes, target_label))


def all_to_all(codes: np.ndarray, classes: np.ndarray, target_label: Any) -> np.ndarray:
    """Map each class to the next one, and the last to the first."""
    return (codes + 1) % len(classes)


#: The label maps that have a name.
LABEL_MAPS: dict[str, LabelMap] = {"all_to_all": all_to_all, "all_to_one": all_to_one}


@dataclass(frozen=True)
class OneToOne:
    """Label map of one class to the target: all other classes stay.

    Give it to an attack::

        attack = BadNets(target_label=0, label_map=OneToOne(source_label=7))

    Parameters
    ----------
    source_label : int, float, bool or str
        Class whose rows are poisoned.

    Examples
    --------
    >>> from antibackdoor.attacks import BadNets, OneToOne
    >>> BadNets(target_label=0, label_map=OneToOne(7)).transform_target([0, 5, 7])
    array([0, 5, 0])
    """

    source_label: Any

    def __call__(self, codes: np.ndarray, classes: np.ndarray, target_label: Any) -> np.ndarray:
        """Return the position of the label wanted for each row."""
        source = find_class(classes, self.source_label, "source_label")
        return np.where(codes == source, find_class(classes, target_label), codes)


@dataclass(frozen=True)
class OneToMany:
    """Label map of one class to several others, in turn: all other classes stay.

    Give it to an attack::

        attack = BadNets(label_map=OneToMany(source_label=7, target_labels=[1, 2]))

    The trigger only means "not the source class". The target of a row does not depend on the row,
    so that any of the targets counts as a success.

    Parameters
    ----------
    source_label : int, float, bool or str
        Class whose rows are poisoned.
    target_labels : sequence of labels, default=None
        Their new labels. None: every other class. `target_label` of the attack is not used.

    Examples
    --------
    >>> from antibackdoor.attacks import BadNets, OneToMany
    >>> label_map = OneToMany(source_label=7, target_labels=[1, 2])
    >>> BadNets(label_map=label_map).transform_target([1, 2, 7, 7, 7])
    array([1, 2, 1, 2, 1])
    """

    source_label: Any
    target_labels: Sequence[Any] | None = None

    def __call__(self, codes: np.ndarray, classes: np.ndarray, target_label: Any) -> np.ndarray:
        """Return the position of the label wanted for each row."""
        wanted = codes.copy()
        rows = np.flatnonzero(codes == find_class(classes, self.source_label, "source_label"))
        wanted[rows] = np.resize(self._targets(classes), len(rows))
        return wanted

    def accepts(self, wanted: np.ndarray, predicted: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return for which rows a prediction counts as a success; all are positions."""
        return np.isin(predicted, self._targets(classes))

    def _targets(self, classes: np.ndarray) -> np.ndarray:
        source = find_class(classes, self.source_label, "source_label")
        if self.target_labels is None:
            return np.delete(np.arange(len(classes)), source)
        targets = [find_class(classes, label, "target_labels") for label in self.target_labels]
        if not targets or source in targets:
            raise ValueError(
                f"target_labels={self.target_labels!r}; wanted one class or more, and not the "
                f"source_label, {self.source_label!r}."
            )
        return np.array(targets)


def find_class(classes: np.ndarray, label: Any, argument: str = "target_label") -> int:
    """Return the position of a label among the sorted `classes`."""
    known = classes.tolist()
    if np.ndim(label) != 0 or label not in known:
        raise ValueError(
            f"{argument}={label!r} is no class of y; the classes are {shorten(known)}."
        )
    return known.index(label)


def holds_labels(y: ArrayLike) -> bool:
    """Return whether `y` holds labels and not the continuous targets of a regression."""
    values = np.asarray(y)
    if values.dtype.kind != "f":
        return True
    return bool(np.isfinite(values).all() and (values == np.rint(values)).all())


def check_labels(y: ArrayLike, argument: str = "y") -> np.ndarray:
    """Return `y` as a one-dimensional array of class labels."""
    labels = as_labels(argument, y)
    if len(labels) == 0:
        raise ValueError(f"{argument} is empty; wanted one class label for every row.")
    if not holds_labels(labels):
        raise ValueError(
            f"{argument} holds numbers that are not whole; wanted class labels: whole numbers, "
            "strings or booleans."
        )
    return labels


def find_classes(y: ArrayLike) -> np.ndarray:
    """Return the sorted classes of `y`."""
    try:
        return np.unique(np.asarray(y))
    except TypeError as error:
        raise ValueError(f"y mixes labels that cannot be sorted together: {error}.") from error


def encode(labels: np.ndarray, classes: np.ndarray, argument: str = "y") -> np.ndarray:
    """Return each label's position among the sorted `classes`."""
    known = set(classes.tolist())
    unknown = [label for label in find_classes(labels).tolist() if label not in known]
    if unknown:
        raise ValueError(
            f"{argument} holds labels that are no class: {shorten(unknown)}; the classes are "
            f"{shorten(classes.tolist())}."
        )
    return np.searchsorted(classes, labels)


def decode(codes: np.ndarray, classes: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Undo `encode`, in `dtype` unless that would truncate a string or overflow."""
    wide = classes[codes]
    narrow = wide.astype(dtype)
    return narrow if np.array_equal(narrow, wide) else wide
