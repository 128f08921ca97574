"""Data sets by name. A new one is a function and a line here."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from antibackdoor.datasets._dataset import Dataset, hold_out
from antibackdoor.datasets._digits import load_digits_images
from antibackdoor.datasets._folders import load_imagefolder
from antibackdoor.datasets._npz import load_npz
from antibackdoor.datasets._torchvision import (
    load_cifar10,
    load_cifar100,
    load_fashion_mnist,
    load_gtsrb,
    load_svhn,
)
from antibackdoor.utils import check_count


def _load_digits(data_root: Path, *, download: bool) -> Dataset:
    """Load scikit-learn's digits, which need neither folder nor download."""
    return hold_out(*load_digits_images(), class_names=tuple("0123456789"))


#: The named data sets, as functions ``(data_root, *, download)``. Those that resize images take
#: `image_size` too.
DATASETS: dict[str, Callable[..., Dataset]] = {
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "digits": _load_digits,
    "fashion-mnist": load_fashion_mnist,
    "gtsrb": load_gtsrb,
    "imagefolder": load_imagefolder,
    "svhn": load_svhn,
}


def load_dataset(
    name: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] = "data",
    download: bool = False,
    image_size: int | None = None,
) -> Dataset:
    """Load a data set by its name, or your own arrays from an .npz file.

    Parameters
    ----------
    name : str or path
        A key of `DATASETS`:

        - ``"digits"``: scikit-learn's, 8 x 8 pixels; a quarter of each class is held
          out for testing. Needs no file.
        - ``"cifar10"``, ``"cifar100"``, ``"fashion-mnist"``, ``"gtsrb"``, ``"svhn"``:
          as torchvision keeps them below `data_root`.
        - ``"imagefolder"``: ``data_root/train/CLASS/*.png`` and
          ``data_root/val/CLASS/*.png`` (or ``test``), in any format that PIL reads.

        Or the path of an ``.npz`` file. It holds ``X_train``, ``y_train``, ``X_test`` and
        ``y_test``, or ``X`` and ``y`` only; then a quarter of each class is held out for
        testing. Pickles in it are refused.
    data_root : str or path, default="data"
        Folder of the data sets that are files. Not used for ``"digits"`` and ``.npz`` files.
    download : bool, default=False
        Whether torchvision may download a missing data set.
    image_size : int, default=None
        Height and width to resize to, for ``"gtsrb"`` (None is 32) and ``"imagefolder"`` (None
        is 224). All images are held in memory.

    Returns
    -------
    Dataset
        uint8 images of shape (n, H, W) or (n, H, W, C) and int64 labels from 0 on. For an
        ``.npz`` file, its rows and labels unchanged.

    Raises
    ------
    OSError
        If the data set is damaged or cannot be downloaded; FileNotFoundError if it is
        not on disk, NotADirectoryError if `data_root` is a file.
    ValueError
        If the name is unknown, an argument is out of range, or the arrays or images are not a
        valid data set.
    TypeError
        If an argument is of a wrong type.
    ImportError
        If torchvision is needed and cannot be imported.

    Examples
    --------
    >>> from antibackdoor.datasets import load_dataset
    >>> digits = load_dataset("digits")
    >>> digits.X_train.shape, digits.X_test.shape
    ((1347, 8, 8), (450, 8, 8))
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"name={name!r}; wanted {_wanted_names()}.")
    root = _check_data_root(data_root)
    if not isinstance(download, bool):
        raise TypeError(f"download={download!r}; wanted True or False.")
    if image_size is not None:
        check_count("image_size", image_size, "wanted a whole number of pixels, 1 or more, or None")

    name = str(name)
    is_npz = name.lower().endswith(".npz")
    if not is_npz and name not in DATASETS:
        raise ValueError(f"name={name!r} is unknown; wanted {_wanted_names()}.")
    if image_size is not None and (is_npz or not _resizes(name)):
        raise ValueError(
            f"image_size={image_size!r} has no effect on name={name!r}, whose images are used as "
            f"they are; only {' and '.join(filter(_resizes, DATASETS))} are resized."
        )
    try:
        if is_npz:
            return load_npz(Path(name).expanduser())
        size = {} if image_size is None else {"image_size": int(image_size)}
        return DATASETS[name](root, download=download, **size)
    except ValueError as error:
        # The loaders describe the error; the data set is named here.
        raise ValueError(f"name={name!r}: {error}") from error


def _wanted_names() -> str:
    return f"one of {sorted(DATASETS)}, or the path of a file that ends in .npz"


def _resizes(name: str) -> bool:
    return "image_size" in inspect.signature(DATASETS[name]).parameters


def _check_data_root(data_root: Any) -> Path:
    wanted = "wanted the path of a folder"
    if not isinstance(data_root, str | os.PathLike):
        raise TypeError(f"data_root={data_root!r}; {wanted}.")
    root = Path(data_root).expanduser()
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"data_root={str(data_root)!r} is a file; {wanted}.")
    return root
