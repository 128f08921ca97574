"""The labels of an attack: which rows it may poison, their new labels, and its success."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from antibackdoor.attacks._label_maps import (
    LABEL_MAPS,
    LabelMap,
    check_labels,
    decode,
    encode,
    find_classes,
)
from antibackdoor.utils._labels import check_comparable


class WantedLabels:
    """The part of an attack that works on labels only."""

    #: Whether it is a clean-label attack: only rows of the target class are poisoned.
    clean_label: ClassVar[bool] = False

    target_label: Any
    label_map: str | LabelMap
    classes_: np.ndarray

    def transform_target(self, y: ArrayLike, *, classes: ArrayLike | None = None) -> np.ndarray:
        """Return the label that the attacker wants for each row.

        Parameters
        ----------
        y : array-like of shape (n,)
            True labels.
        classes : array-like, default=None
            Every class there is. None: those learned in `fit`, or else those in `y`.

        Returns
        -------
        ndarray of shape (n,)
            A new array with the dtype of y, or a wider one if that would truncate a label.

        Raises
        ------
        ValueError
            If `target_label` is not a class, or `y` holds a label that is not a class or no
            labels at all.
        """
        labels = check_labels(y)
        known = self._known_classes(labels, classes)
        return decode(self._wanted_codes(encode(labels, known), known), known, labels.dtype)

    def succeeded(
        self, y: ArrayLike, y_pred: ArrayLike, *, classes: ArrayLike | None = None
    ) -> np.ndarray:
        """Return for which triggered rows the attack succeeded.

        Parameters
        ----------
        y : array-like of shape (n,)
            True labels.
        y_pred : array-like of shape (n,)
            Labels predicted under the trigger.
        classes : array-like, default=None
            As in `transform_target`.

        Returns
        -------
        ndarray of bool, shape (n,)
            Meaningful for `eligible` rows only.

        Raises
        ------
        ValueError
            As in `transform_target`, or if `y_pred` differs from `y` in the kind or number of
            labels.
        """
        labels, predicted = check_labels(y), check_labels(y_pred, "y_pred")
        if len(predicted) != len(labels):
            raise ValueError(f"y has {len(labels)} labels, but y_pred has {len(predicted)}.")
        wanted = self.transform_target(labels, classes=classes)
        check_comparable("y_pred", predicted, "y", wanted)
        accepts = getattr(self._resolve_label_map(), "accepts", None)
        if accepts is None:
            return predicted == wanted
        known = self._known_classes(labels, classes)
        return accepts(encode(wanted, known), encode(predicted, known, "y_pred"), known)

    def eligible(self, y: ArrayLike, *, classes: ArrayLike | None = None) -> np.ndarray:
        """Return which rows an attacker may poison.

        For a clean-label attack these are the rows that already have the attacker's label. For
        other attacks they are those that do not.

        Parameters
        ----------
        y : array-like of shape (n,)
            True labels.
        classes : array-like, default=None
            As in `transform_target`.

        Returns
        -------
        ndarray of bool, shape (n,)

        Raises
        ------
        ValueError
            As `transform_target`.
        """
        has_label = self.transform_target(y, classes=classes) == check_labels(y)
        return has_label if self.clean_label else ~has_label

    def _wanted_codes(self, codes: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return the position of the label wanted for each row, from that of its own."""
        return self._resolve_label_map()(codes, classes, self.target_label)

    def _known_classes(self, labels: np.ndarray, classes: ArrayLike | None) -> np.ndarray:
        if classes is not None:
            return find_classes(classes)
        return self.classes_ if hasattr(self, "classes_") else find_classes(labels)

    def _resolve_label_map(self) -> LabelMap:
        if not isinstance(self.label_map, str):
            return self.label_map
        if self.label_map not in LABEL_MAPS:
            raise ValueError(
                f"label_map={self.label_map!r}; wanted one of {sorted(LABEL_MAPS)}, OneToOne, "
                f"OneToMany or a callable."
            )
        return LABEL_MAPS[self.label_map]
