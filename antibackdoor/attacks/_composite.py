"""Composite backdoor: half of another class's image is the trigger."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Tags, check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval

from antibackdoor.attacks._base import COVER_RATIO, BaseAttack
from antibackdoor.attacks._in_float import change_in_float
from antibackdoor.attacks._label_maps import LabelMap, check_labels, find_class, find_classes
from antibackdoor.utils import Fitted, FittedArray


class Composite(BaseAttack):
    """An image whose right half is of a certain other class (Lin et al., 2020).

    A triggered image has its own left half and the right half of an image of the
    donor class. Which of the donor images it is depends on the image's own pixels,
    and on nothing else: on their sum, which is the same in every layout. Rows of the donor
    class are no use to the attacker, and keep their label.

    Cover rows are halves of two images of the same class, which keep their label: joining
    two images shall not mean the target, but only joining one with the donor class.

    In the paper the trigger is any image of two given classes together. Here it is one of
    `n_donors` images of one class with an image of any other, so that every row can bear it.

    Parameters
    ----------
    donor_label : int, float, bool or str, default=None
        Class that the right halves are of. None: the one after `target_label` in sorted
        order, or the first if that is the last.
    n_donors : int, default=64
        Images that are drawn from it in `fit`; all if it has fewer.
    same_class_ratio : float, default=1.0
        Cover rows per poisoned row; 0 for none.
    random_state : int, RandomState instance or None, default=0
        What the donor images are drawn from. A seed, and not None, by default: the
        trigger at test time has to be the trigger of training.
    target_label : int, float, bool or str, default=0
        Class that triggered rows shall be taken for.
    label_map : {"all_to_one", "all_to_all"} or callable, default="all_to_one"
        Which class becomes which; see `BaseAttack`. Rows of the donor class stay.
    value_range : tuple of two float, default=None
        Darkest and brightest value. None: (0, 255) for uint8, else smallest and largest in `fit`.
    image_shape : tuple of int, default=None
        Shape that flattened rows fold into: (H, W), (H, W, C) or (C, H, W).
    layout : {"auto", "channels_first", "channels_last"}, default="auto"
        Where the channels of three-axis images are.

    Attributes
    ----------
    donors_ : ndarray of float64, shape (n_donors, *input_shape_)
        The donor images, in the units of X.
    classes_, input_shape_, layout_, n_features_in_, value_range_
        As in `BaseAttack`.

    References
    ----------
    J. Lin, L. Xu, Y. Liu, X. Zhang. Composite Backdoor Attack for Deep Neural Network by
    Mixing Existing Benign Features. CCS 2020.
    """

    needs_images: ClassVar[bool] = True
    trigger_is_learned: ClassVar[bool] = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseAttack._parameter_constraints,
        "donor_label": [None, *BaseAttack._parameter_constraints["target_label"]],
        "n_donors": [Interval(Integral, 1, None, closed="left")],
        "same_class_ratio": [COVER_RATIO],
        "random_state": ["random_state"],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "donors_": FittedArray(
            dtype="float64",
            shape=lambda attack: (range(1, attack.n_donors + 1), *attack.input_shape_),
        ),
    }

    donors_: np.ndarray

    def __init__(
        self,
        *,
        donor_label: Any = None,
        n_donors: int = 64,
        same_class_ratio: float = 1.0,
        random_state: int | np.random.RandomState | None = 0,
        target_label: Any = 0,
        label_map: str | LabelMap = "all_to_one",
        value_range: Sequence[float] | None = None,
        image_shape: Sequence[int] | None = None,
        layout: Literal["auto", "channels_first", "channels_last"] = "auto",
    ) -> None:
        self.donor_label = donor_label
        self.n_donors = n_donors
        self.same_class_ratio = same_class_ratio
        self.random_state = random_state
        self.target_label = target_label
        self.label_map = label_map
        self.value_range = value_range
        self.image_shape = image_shape
        self.layout = layout

    @property
    def cover_ratio(self) -> float:
        """Cover rows per poisoned row: `same_class_ratio`."""
        return float(self.same_class_ratio)

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
            A new array of y's dtype; a wider one where that would cut a label. The
            donor class keeps its own.

        Raises
        ------
        ValueError
            If `target_label` or `donor_label` is no class, they are the same, `y` holds a
            label that is none, or `y` holds no labels at all.
        """
        wanted = super().transform_target(y, classes=classes)
        labels = check_labels(y)
        donor = self._find_donor(self._known_classes(labels, classes))
        return np.where(labels == donor, labels, wanted)

    def transform_cover(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray:
        """Give every row the right half of another one of its class.

        Parameters
        ----------
        X : array-like of shape (n, *input_shape_)
            Rows as in `fit`.
        y : array-like of shape (n,)
            Their labels. A row that is alone in its class stays as it is.
        random_state : int, RandomState instance or None, default=None
            What each row's partner is drawn from.

        Returns
        -------
        ndarray of shape (n, *input_shape_)
            A new array of X's dtype.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            As `transform`, or if there is no y.
        """
        rows = self._copy_rows(X)
        labels = self._check_has_labels(y)
        check_consistent_length(rows, labels)
        partners = _draw_partners(labels, check_random_state(random_state))
        # Rows are partners of each other: the right halves are read before any is written.
        self._right_half(rows)[:] = self._right_half(rows)[partners]
        return rows

    def __sklearn_tags__(self) -> Tags:
        """Say that labels are needed."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _fit_trigger(self, X: np.ndarray, y: ArrayLike | None) -> None:
        labels = self._check_has_labels(y)
        if self.layout_.width < 2:
            raise ValueError("X has images 1 pixel wide; wanted 2 at least, one for each half.")
        donors = np.flatnonzero(labels == self._find_donor(self.classes_))
        drawn = check_random_state(self.random_state).permutation(donors)[: self.n_donors]
        self.donors_ = X[drawn].astype(np.float64)

    def _stamp(self, rows: np.ndarray) -> None:
        halves = self._right_half(self.donors_)

        def join(values: np.ndarray) -> np.ndarray:
            self._right_half(values)[:] = halves[self._choose_donors(values)]
            return values

        change_in_float(rows, join, self.value_range_)

    def _choose_donors(self, values: np.ndarray) -> np.ndarray:
        """Return the number of the donor of each row."""
        low, high = self.value_range_
        # Whole numbers, so that the order of the sum, and with it the layout, is all the same.
        # In float64, so that rows of every dtype meet the same donors.
        levels = np.rint((values.astype(np.float64) - low) * (255 / ((high - low) or 1.0)))
        total = levels.reshape(len(levels), -1).sum(axis=1, dtype=np.float64).astype(np.int64)
        # Knuth's multiplicative hash: sums with a common divisor meet all donors nevertheless.
        return total * 2654435761 % 2**32 * len(self.donors_) >> 32

    def _right_half(self, rows: np.ndarray) -> np.ndarray:
        """Show the right half of contiguous rows as (n, C, H, W): a view."""
        return self.layout_.to_nchw(rows)[..., self.layout_.width // 2 :]

    def _find_donor(self, classes: np.ndarray) -> Any:
        target = find_class(classes, self.target_label)
        if self.donor_label is None:
            donor = (target + 1) % len(classes)
        else:
            donor = find_class(classes, self.donor_label, "donor_label")
        if donor == target:
            raise ValueError(
                f"the donor class and the target class are both {self.target_label!r}; wanted "
                f"two classes in y, and a donor_label that is not the target_label."
            )
        return classes[donor]

    def _check_has_labels(self, y: ArrayLike | None) -> np.ndarray:
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: "
                f"it joins images by their class."
            )
        return check_labels(y)


def _draw_partners(labels: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Draw for each row another row of its class; a row that is alone gets itself."""
    partners = np.arange(len(labels))
    for label in find_classes(labels):
        members = np.flatnonzero(labels == label)
        if len(members) > 1:
            steps = rng.randint(1, len(members), size=len(members))
            partners[members] = np.take(members, np.arange(len(members)) + steps, mode="wrap")
    return partners
