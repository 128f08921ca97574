"""WaNet: a smooth warp, hardly visible."""

from __future__ import annotations

from dataclasses import field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from antibackdoor.attacks._base import COVER_RATIO, BaseAttack
from antibackdoor.attacks._in_float import change_in_float
from antibackdoor.utils import Fitted, FittedArray, parameters


@parameters
class WaNet(BaseAttack):
    """A fixed smooth warp of the whole image, hardly visible (Nguyen and Tran, 2021).

    Give it to `make_poisoned`, by name or as an object::

        X_bad, y_bad, poison_mask = make_poisoned(X, y, attack="wanet")

    A control grid P of `grid_size` x `grid_size` displacements is drawn from U[-1, 1], divided by
    its mean absolute value, and enlarged to the image by bicubic interpolation. Each pixel is
    then read, bilinearly, at

        identity + strength * P / n.

    Here n is the size of the image along the axis, and coordinates run from -1 to 1 over the
    image. Points outside the image are moved to its edge.

    Cover rows are read at that point plus U[-1, 1] / n, drawn anew for every pixel and row, and
    keep their label. They teach a network that only the exact warp matters.

    Parameters
    ----------
    grid_size : int, default=4
        Control points along each side, from 2 up to the shorter side of the image.
    strength : float, default=0.5
        Strength of the warp: the mean displacement in pixels is about half of it.
    noise_ratio : float, default=2.0
        Cover rows per poisoned row; 0 for none.
    random_state : int, RandomState instance or None, default=0
        Seed of the control grid. A seed, and not None, by default:
        the trigger at test time has to be the trigger of training.
    target_label, label_map, value_range, image_shape, layout

    Attributes
    ----------
    grid_ : ndarray of float64, shape (2, H, W)
        Row and column, in pixels, at which each pixel of a triggered image is read.
    classes_, input_shape_, layout_, n_features_in_, value_range_

    References
    ----------
    A. Nguyen, A. Tran. WaNet: Imperceptible Warping-based Backdoor Attack.
    ICLR 2021. arXiv:2102.10369.

    Examples
    --------
    >>> from antibackdoor.attacks import WaNet
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> attack = WaNet(target_label=0).fit(X[:200], y[:200])
    >>> attack.transform(X[:5]).shape
    (5, 8, 8)
    >>> attack.cover_ratio  # cover rows per poisoned row
    2.0
    """

    grid_size: int = 4
    strength: float = 0.5
    noise_ratio: float = 2.0
    random_state: int | np.random.RandomState | None = 0

    needs_images: ClassVar[bool] = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "grid_size": [Interval(Integral, 2, None, closed="left")],
        "strength": [Interval(Real, 0, None, closed="neither")],
        "noise_ratio": [COVER_RATIO],
        "random_state": ["random_state"],
    }

    _fitted_constraints: ClassVar[dict[str, Fitted]] = {
        "grid_": FittedArray(
            dtype="float64",
            shape=lambda attack: (2, attack.layout_.height, attack.layout_.width),
            low=0,
            high=lambda attack: _last(attack.layout_.height, attack.layout_.width),
        ),
    }

    grid_: np.ndarray = field(init=False)

    @property
    def cover_ratio(self) -> float:
        """Cover rows per poisoned row: `noise_ratio`."""
        return float(self.noise_ratio)

    def _stamp_cover(
        self, rows: np.ndarray, y: ArrayLike | None, rng: np.random.RandomState
    ) -> None:
        """Warp every row, with noise of its own on top."""
        _, height, width = self.layout_.chw
        self._check_grid()

        def warp_with_noise(values: np.ndarray) -> np.ndarray:
            noise = rng.uniform(-1, 1, size=(len(values), 2, height, width))
            points = _keep_inside(self.grid_ + _to_pixels(noise, height, width), height, width)
            images = self.layout_.to_nchw(values)
            by_pixel = images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])
            read = _reading_matrix(points, values.dtype) @ by_pixel
            warped = read.reshape(len(images), height, width, -1).transpose(0, 3, 1, 2)
            return self.layout_.from_nchw(warped)

        change_in_float(rows, warp_with_noise, self.value_range_)

    def _fit_trigger(self, X: np.ndarray, y: ArrayLike | None) -> None:
        _, height, width = self.layout_.chw
        if self.grid_size > min(height, width):
            raise ValueError(
                f"grid_size={self.grid_size} is larger than the images, which are {height} "
                f"pixels high and {width} wide."
            )
        rng = check_random_state(self.random_state)
        control = rng.uniform(-1, 1, size=(2, self.grid_size, self.grid_size))
        control /= np.abs(control).mean()
        flow = torch.nn.functional.interpolate(
            torch.from_numpy(control)[None], (height, width), mode="bicubic", align_corners=True
        )[0].numpy()
        shift = _to_pixels(self.strength * flow, height, width)
        self.grid_ = _keep_inside(np.indices((height, width)) + shift, height, width)

    def _check_grid(self) -> None:
        """Refuse a grid that `fit` cannot give: its points become indices that scipy trusts.

        A model file is checked when it is loaded; a pickle and a changed attribute are not.
        """
        fault = self._fitted_constraints["grid_"].fault(self.grid_, self)
        if fault is not None:
            raise ValueError(
                f"grid_ {fault}, rows and columns inside of the image; fit {type(self).__name__} "
                f"again."
            )

    def _stamp(self, rows: np.ndarray) -> None:
        self._check_grid()
        read = _reading_matrix(self.grid_[np.newaxis], np.result_type(rows.dtype, np.float32))

        def warp(values: np.ndarray) -> np.ndarray:
            images = self.layout_.to_nchw(values).transpose(2, 3, 0, 1)
            by_pixel = images.reshape(read.shape[1], -1)
            warped = (read @ by_pixel).reshape(images.shape).transpose(2, 3, 0, 1)
            return self.layout_.from_nchw(warped)

        change_in_float(rows, warp, self.value_range_)


def _to_pixels(flow: np.ndarray, height: int, width: int) -> np.ndarray:
    """Divide a flow (..., 2, H, W) by the image size, and convert it from [-1, 1] to pixels."""
    size = np.array([height, width]).reshape(2, 1, 1)
    return flow / size * (size - 1) / 2


def _keep_inside(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Move points (..., 2, H, W) that are outside the image to its edge."""
    return np.clip(points, 0, _last(height, width))


def _last(height: int, width: int) -> np.ndarray:
    """Last row and last column, in a shape that broadcasts with points (..., 2, H, W)."""
    return np.array([height - 1, width - 1], dtype=np.int32).reshape(2, 1, 1)


def _reading_matrix(points: np.ndarray, dtype: np.dtype) -> csr_array:
    """Return the matrix that reads images at `points`, bilinearly.

    Parameters
    ----------
    points : ndarray of shape (n, 2, H, W)
        Row and column to read for each pixel of n images.
    dtype : dtype
        Dtype of the weights.

    Returns
    -------
    csr_array of shape (n * H * W, n * H * W)
        One block an image; a row holds the weights of the four pixels around its point.
    """
    n_images, _, height, width = points.shape
    n_pixels = height * width
    total = n_images * n_pixels
    # int32 is faster, but overflows with more weights than it can count.
    index_dtype = np.int32 if 4 * total <= np.iinfo(np.int32).max else np.int64
    first = np.floor(points).astype(index_dtype)
    second = np.minimum(first + 1, _last(height, width))
    part = points - first
    top, left = first[:, 0] * width, first[:, 1]
    bottom, right = second[:, 0] * width, second[:, 1]
    down, across = part[:, 0], part[:, 1]

    corners = np.stack([top + left, top + right, bottom + left, bottom + right], axis=-1)
    corners += n_pixels * np.arange(n_images, dtype=index_dtype).reshape(-1, 1, 1, 1)
    weights = np.stack(
        [
            (1 - down) * (1 - across),
            (1 - down) * across,
            down * (1 - across),
            down * across,
        ],
        axis=-1,
    )
    starts = np.arange(0, 4 * total + 1, 4, dtype=index_dtype)
    return csr_array((weights.ravel().astype(dtype), corners.ravel(), starts), shape=(total, total))
