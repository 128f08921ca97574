"""Base of the attacks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import field
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils import Tags, check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from antibackdoor.attacks._label_maps import LABEL_MAPS, LabelMap, find_classes, holds_labels
from antibackdoor.attacks._value_range import (
    check_holds_range,
    check_inside,
    check_value_range,
    find_changed,
)
from antibackdoor.attacks._wanted_labels import WantedLabels
from antibackdoor.utils import (
    CheckedParameters,
    Fitted,
    ImageLayout,
    as_labels,
    as_rows,
    naming,
    parameters,
    resolve_layout,
)
from antibackdoor.utils._arguments import as_numbers
from antibackdoor.utils._atomic import all_or_nothing
from antibackdoor.utils._numbers import with_plain_parameters
from antibackdoor.utils._sklearn import TransformerMixin
from antibackdoor.utils._torch import in_usual_torch

#: Range of the parameters that set a `cover_ratio`; no data set has rows for more.
COVER_RATIO = Interval(Real, 0, 1e9, closed="both")


@parameters
@in_usual_torch
class BaseAttack(WantedLabels, TransformerMixin, CheckedParameters, ABC):
    """Base of the attacks: derive from it to write an attack of your own.

    An attack is a transformer with a trigger and a label map::

        attack = BadNets(target_label=3).fit(X, y)
        attack.transform(X_test)  # rows with the trigger
        attack.transform_target(y_test)  # the labels that the attacker wants

    A new attack lists parameters of its own (`antibackdoor.utils.parameters`), and implements
    `_stamp`, which puts the trigger on rows in place. If the trigger depends on the data, it
    implements `_fit_trigger` too. If training rows differ from triggered test rows, it implements
    `_stamp_training` and `_stamp_cover`.

    Parameters
    ----------
    target_label : int, float, bool or str, default=0
        Class that the network shall predict for triggered rows. ``"all_to_all"`` ignores it.
    label_map : {"all_to_one", "all_to_all"} or callable, default="all_to_one"
        Maps each class to the attacker's label. ``"all_to_one"`` maps every class to the target.
        ``"all_to_all"`` maps each class to the next one in sorted order, and the last to the
        first. `OneToOne` and `OneToMany` map one class only. Any other callable takes the rows'
        positions in the sorted classes, the classes and `target_label`, and returns positions.
    value_range : tuple of two float, default=None
        Darkest and brightest possible value; rows with values outside are refused. None: (0, 255)
        for uint8, else the smallest and the largest value of X in `fit`. New rows may then lie
        outside by half the width of the range; rows farther out probably have other units and are
        refused. Set it for float images, so that the trigger does not depend on the rows in X.
    image_shape : tuple of int, default=None
        Image shape of flattened rows: (H, W), (H, W, C) or (C, H, W).
    layout : {"auto", "channels_first", "channels_last"}, default="auto"
        Position of the channel axis of images with three axes.

    Attributes
    ----------
    input_shape_ : tuple of int
        Shape of one row.
    layout_ : ImageLayout
        Layout of the image in a row; a row of plain features is an image one pixel high.
    value_range_ : tuple of two float
        Darkest and brightest value, in the units of X; triggers are clipped to it.
    classes_ : ndarray of shape (n_classes,)
        Sorted classes; only after a fit with labels.
    n_features_in_ : int
        ``X.shape[1]``.

    Examples
    --------
    >>> import numpy as np
    >>> from antibackdoor.attacks import BadNets, BaseAttack
    >>> attack = BadNets(target_label=1)
    >>> isinstance(attack, BaseAttack)
    True
    >>> attack = attack.fit(np.zeros((4, 8, 8), dtype=np.uint8), [0, 1, 2, 2])
    >>> attack.transform_target([0, 1, 2])
    array([1, 1, 1])
    >>> attack.eligible([0, 1, 2])  # rows of the target class are not poisoned
    array([ True, False,  True])
    """

    target_label: Any = 0
    label_map: str | LabelMap = "all_to_one"
    value_range: Sequence[float] | None = None
    image_shape: Sequence[int] | None = None
    layout: Literal["auto", "channels_first", "channels_last"] = "auto"

    #: Whether it refuses plain features without an `image_shape`.
    needs_images: ClassVar[bool] = False
    #: Whether the trigger depends on the rows in `fit`: fitted on other rows, it differs.
    trigger_is_learned: ClassVar[bool] = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "target_label": [int, float, str, bool, np.integer, np.floating, np.bool_],
        "label_map": [StrOptions(set(LABEL_MAPS)), callable],
        "value_range": [None, "array-like"],
        "image_shape": [None, "array-like"],
        "layout": [StrOptions({"auto", "channels_first", "channels_last"})],
    }

    #: Attributes that `fit` sets beside those of every attack: checked when a file is loaded.
    _fitted_constraints: ClassVar[dict[str, Fitted]] = {}

    input_shape_: tuple[int, ...] = field(init=False)
    layout_: ImageLayout = field(init=False)
    value_range_: tuple[float, float] = field(init=False)
    n_features_in_: int = field(init=False)

    def __init_subclass__(cls, **options: Any) -> None:
        """Run every method with torch's default settings and with plain numbers."""
        super().__init_subclass__(**options)
        in_usual_torch(cls)
        for name in ("transform", "transform_training", "transform_cover"):
            if name in vars(cls):
                setattr(cls, name, with_plain_parameters(vars(cls)[name]))

    @property
    def cover_ratio(self) -> float:
        """Cover rows per poisoned row: rows with a disturbed trigger that keep their label."""
        return 0.0

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> BaseAttack:
        """Learn the shape of a row, the range of its values and the classes.

        Parameters
        ----------
        X : array-like of shape (n, n_features), (n, H, W), (n, H, W, C) or (n, C, H, W)
            Clean rows.
        y : array-like of shape (n,), default=None
            Their labels. Without them the classes are those in the `y` that `transform_target`
            and `eligible` get.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X holds NaN or infinity, its layout is ambiguous, the trigger does not fit into its
            images, or a parameter is out of range.
        TypeError
            If X is sparse or holds text.
        """
        self._fit_trigger(self._learn_rows(X, y), y)
        return self

    @with_plain_parameters
    def transform(self, X: ArrayLike) -> np.ndarray:
        """Put the trigger on every row.

        Parameters
        ----------
        X : array-like of shape (n, *input_shape_)
            Rows as in `fit`.

        Returns
        -------
        ndarray of shape (n, *input_shape_)
            A new array with the dtype of X.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If X holds NaN or infinity, or if the shape or the units of its rows differ from those
            in `fit`. Other units are detected by values outside `value_range_`. Smaller units,
            such as [0, 1] for [0, 255], lie inside it and are not detected.
        """
        stamped = self._copy_rows(X)
        self._stamp(stamped)
        return stamped

    @with_plain_parameters
    def transform_training(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray:
        """Make the poisoned rows of the training data.

        For most attacks they are the same as those of `transform`.

        Parameters
        ----------
        X : array-like of shape (n, *input_shape_)
            Clean rows as in `fit`.
        y : array-like of shape (n,), default=None
            Their true labels, for attacks that need them.
        random_state : int, RandomState instance or None, default=None
            Seed of what an attack draws for each row, if it does.

        Returns
        -------
        ndarray of shape (n, *input_shape_)
            A new array with the dtype of X.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            As `transform`, or if the attack needs y, and it is missing or does not match X.
        """
        rows = self._copy_rows(X)
        self._stamp_training(rows, y, check_random_state(random_state))
        return rows

    @with_plain_parameters
    def transform_cover(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray:
        """Make cover rows; only for an attack whose `cover_ratio` is not 0.

        Parameters
        ----------
        X : array-like of shape (n, *input_shape_)
            Rows as in `fit`.
        y : array-like of shape (n,), default=None
            Their labels, for attacks that need them.
        random_state : int, RandomState instance or None, default=None
            Seed of the disturbance of each row.

        Returns
        -------
        ndarray of shape (n, *input_shape_)
            A new array with the dtype of X.

        Raises
        ------
        NotFittedError
            Before `fit`.
        NotImplementedError
            If the attack has no cover rows.
        ValueError
            As `transform_training`.
        """
        rows = self._copy_rows(X)
        self._stamp_cover(rows, y, check_random_state(random_state))
        return rows

    def __sklearn_tags__(self) -> Tags:
        """Declare that the dtype of X is preserved."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32", "int64", "uint8"]
        return tags

    def _fit_trigger(self, X: np.ndarray, y: ArrayLike | None) -> None:
        """Compute the trigger, as far as it does not depend on the row to be stamped."""

    @abstractmethod
    def _stamp(self, rows: np.ndarray) -> None:
        """Put the trigger on `rows`, of shape (n, *input_shape_) and contiguous, in place."""

    def _stamp_training(
        self, rows: np.ndarray, y: ArrayLike | None, rng: np.random.RandomState
    ) -> None:
        """Make poisoned rows of `rows`, in place; `y` are their true labels, or None."""
        self._stamp(rows)

    def _stamp_cover(
        self, rows: np.ndarray, y: ArrayLike | None, rng: np.random.RandomState
    ) -> None:
        """Make cover rows of `rows`, in place; `y` are their labels, or None."""
        raise NotImplementedError(f"{type(self).__name__} has no cover rows.")

    def _learn_rows(self, X: ArrayLike, y: ArrayLike | None) -> np.ndarray:
        """Set the attributes that `fit` sets for every attack, and return X as an array."""
        rows = self._check_rows(X, reset=True)
        # The targets of a regression are accepted too, and ignored.
        labels = as_labels("y", y) if y is not None and holds_labels(y) else None
        self.input_shape_ = rows.shape[1:]
        self.layout_ = self._resolve_layout()
        self._fit_dtype = rows.dtype.name  # a string: a file then holds no type of numpy's
        self.value_range_ = self._learn_value_range(rows)
        if hasattr(self, "classes_"):
            del self.classes_
        if y is not None:
            check_consistent_length(rows, y)
        if labels is not None:
            self.classes_ = find_classes(labels)
        self._check_units(rows)
        return rows

    def _range_is_seen(self) -> bool:
        """Return whether the range was taken from the rows in `fit`, and is not known."""
        return self.value_range is None and self._fit_dtype != "uint8"

    def _find_changed(self, changed: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Return which rows are changed by more than rounding; see `find_changed`."""
        return find_changed(changed, before, self.value_range_)

    def _check_rows(self, X: ArrayLike, *, reset: bool) -> np.ndarray:
        with naming("X"):
            checked = validate_data(self, as_rows(X), dtype="numeric", allow_nd=True, reset=reset)
            return as_numbers(checked)

    def _resolve_layout(self) -> ImageLayout:
        found = resolve_layout(self.input_shape_, self.image_shape, self.layout)
        if found is None and self.needs_images:
            raise ValueError(
                f"{type(self).__name__} needs images, but X has {self.n_features_in_} feature(s) "
                f"a row and image_shape=None; give image_shape=(H, W), (H, W, C) or (C, H, W)."
            )
        if found is None:
            found = resolve_layout(self.input_shape_, (1, *self.input_shape_), self.layout)
        assert found is not None
        return found

    def _learn_value_range(self, X: np.ndarray) -> tuple[float, float]:
        if self.value_range is None:
            return (0.0, 255.0) if X.dtype == np.uint8 else (float(X.min()), float(X.max()))
        return check_value_range(self.value_range)

    def _copy_rows(self, X: ArrayLike) -> np.ndarray:
        """Return checked rows in a new array."""
        check_is_fitted(self)
        rows = self._check_rows(X, reset=False)
        if rows.shape[1:] != self.input_shape_:
            raise ValueError(
                f"X has rows of shape {rows.shape[1:]}, but {type(self).__name__} was fitted on "
                f"rows of shape {self.input_shape_}."
            )
        if self.value_range is None and (rows.dtype == np.uint8) != (self._fit_dtype == "uint8"):
            raise ValueError(
                f"X has dtype {rows.dtype}, but {type(self).__name__} was fitted on "
                f"{self._fit_dtype}, whose values may have other units; give the same dtype "
                f"or set the value_range."
            )
        self._check_units(rows)
        return np.array(rows, order="C")

    def _check_units(self, rows: np.ndarray) -> None:
        check_holds_range(rows.dtype, self.value_range_)
        check_inside(rows, self.value_range_, self._range_is_seen(), type(self).__name__)
