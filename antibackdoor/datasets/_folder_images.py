"""Images of a folder, decoded on demand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from antibackdoor.datasets._images import UnreadableImageError, read_image, to_row
from antibackdoor.utils import LazyRows


class FolderImages(LazyRows):
    """Images of a folder as uint8 rows (n, H, W, C), decoded on demand and not kept in memory.

    Parameters
    ----------
    names : sequence of str
        Paths of the files, relative to the root.
    row_shape : tuple of int
        Height, width and channels (1 or 3) to convert them to.
    depth : int or None
        As in `read_image`.
    crop : bool
        As in `load_image_folder`.
    n_jobs : int or None
        As in `LazyRows`.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        row_shape: tuple[int, int, int],
        depth: int | None,
        *,
        crop: bool,
        n_jobs: int | None,
    ) -> None:
        super().__init__((len(names), *row_shape), n_jobs=n_jobs)
        self._root = root
        self._names = names
        self._depth = depth
        self._crop = crop

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        """Decode images.

        Parameters
        ----------
        numbers : numpy.ndarray of shape (n_rows,), int64

        Returns
        -------
        numpy.ndarray of shape (n_rows, H, W, C), uint8

        Raises
        ------
        ValueError
            If a file is not an image, or missing.
        """
        rows = np.empty((len(numbers), *self.shape[1:]), dtype=np.uint8)
        for row, number in enumerate(numbers):
            path = self._root / self._names[number]
            try:
                image, _ = read_image(path, self._depth)
            except UnreadableImageError as error:
                raise ValueError(
                    f"X: {str(path)!r} cannot be decoded as an image: {error}. Repair it or remove "
                    f"it from the folder, and open the folder again."
                ) from error
            rows[row] = to_row(image, rows.shape[1:], crop=self._crop)
        return rows
