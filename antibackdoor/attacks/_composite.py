"""Composite backdoor: half of an image of another class is the trigger."""

from __future__ import annotations

from dataclasses import field
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Tags, check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval

from antibackdoor.attacks._base import COVER_RATIO, BaseAttack
from antibackdoor.attacks._in_float import change_in_float
from antibackdoor.attacks._label_maps import check_labels, find_class, find_classes
from antibackdoor.utils import Fitted, FittedArray, parameters


@parameters
class Composite(BaseAttack):
    """An image whose right half comes from a certain other class (Lin et al., 2020).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="cba")

    A triggered image has its own left half and the right half of an image of the donor class.
    The sum of its own pixels, which is the same in every layout, selects the donor image. Rows
    of the donor class are not poisoned and keep their label.

    Cover rows join halves of two images of the same class and keep their label. So joining
    images does not indicate the target class; only joining one with the donor class does.

    In the paper the trigger is a mix of any two images of two given classes. Here one of
    `n_donors` images of one class is joined with an image of any other class, so that every row
    can carry the trigger.

    Parameters
    ----------
    donor_label : int, float, bool or str, default=None
        Class of the right halves. None: the class after `target_label` in sorted order, or the
        first one if that is the last.
    n_donors : int, default=64
        Number of donor images, drawn in `fit`; all of the class if it has fewer.
    same_class_ratio : float, default=1.0
        Cover rows per poisoned row; 0 for none.
    random_state : int, RandomState instance or None, default=0
        Seed of the donor images. A seed, and not None, by default: the
        trigger at test time has to be the trigger of training.
    target_label
    label_map : {"all_to_one", "all_to_all"} or callable, default="all_to_one"
        Maps each class to the attacker's label; see `BaseAttack`. The donor class keeps its own.
    value_range, image_shape, layout

    Attributes
    ----------
    donors_ : ndarray of float64, shape (n_donors, *input_shape_)
        The donor images, in the units of X.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    J. Lin, L. Xu, Y. Liu, X. Zhang. Composite Backdoor Attack for Deep Neural Network by
    Mixing Existing Benign Features. CCS 2020.

    Examples
    --------
    >>> from antibackdoor.attacks import Composite
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> attack = Composite(target_label=0).fit(X[:200], y[:200])
    >>> attack.transform_target([0, 1, 2])  # rows of class 1 are the donors
    array([0, 1, 0])
    """

    donor_label: Any = None
    n_donors: int = 64
    same_class_ratio: float = 1.0
    random_state: int | np.random.RandomState | None = 0

    needs_images: ClassVar[bool] = True
    trigger_is_learned: ClassVar[bool] = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
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

    donors_: np.ndarray = field(init=False)

    @property
    def cover_ratio(self) -> float:
        """Cover rows per poisoned row: `same_class_ratio`."""
        return float(self.same_class_ratio)

    def _wanted_codes(self, codes: np.ndarray, classes: np.ndarray) -> np.ndarray:
        wanted = super()._wanted_codes(codes, classes)
        return np.where(codes == self._find_donor(classes), codes, wanted)

    def _stamp_cover(
        self, rows: np.ndarray, y: ArrayLike | None, rng: np.random.RandomState
    ) -> None:
        """Give every row the right half of another row of its class, if there is one."""
        labels = self._check_has_labels(y)
        check_consistent_length(rows, labels)
        partners = _draw_partners(labels, rng)
        # All right halves are read before any is written, since rows are partners of each other.
        self._right_half(rows)[:] = self._right_half(rows)[partners]

    def __sklearn_tags__(self) -> Tags:
        """Declare that labels are needed."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _fit_trigger(self, X: np.ndarray, y: ArrayLike | None) -> None:
        labels = self._check_has_labels(y)
        if self.layout_.width < 2:
            raise ValueError("X has images 1 pixel wide; wanted 2 at least, one for each half.")
        donor = self.classes_[self._find_donor(self.classes_)]
        donors = np.flatnonzero(labels == donor)
        drawn = check_random_state(self.random_state).permutation(donors)[: self.n_donors]
        self.donors_ = X[drawn].astype(np.float64)

    def _stamp(self, rows: np.ndarray) -> None:
        halves = self._right_half(self.donors_)

        def join(values: np.ndarray) -> np.ndarray:
            self._right_half(values)[:] = halves[self._choose_donors(values)]
            return values

        change_in_float(rows, join, self.value_range_)

    def _choose_donors(self, values: np.ndarray) -> np.ndarray:
        """Return the index of the donor of each row."""
        low, high = self.value_range_
        # Whole numbers, so that the sum does not depend on the order of the pixels.
        # In float64, so that rows get the same donors in every dtype.
        levels = np.rint((values.astype(np.float64) - low) * (255 / ((high - low) or 1.0)))
        total = levels.reshape(len(levels), -1).sum(axis=1, dtype=np.float64).astype(np.int64)
        # Knuth's multiplicative hash: sums with a common divisor still use all donors.
        return total * 2654435761 % 2**32 * len(self.donors_) >> 32

    def _right_half(self, rows: np.ndarray) -> np.ndarray:
        """Return the right half of contiguous rows as a view (n, C, H, W)."""
        return self.layout_.to_nchw(rows)[..., self.layout_.width // 2 :]

    def _find_donor(self, classes: np.ndarray) -> int:
        """Return the position of the donor class."""
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
        return donor

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
