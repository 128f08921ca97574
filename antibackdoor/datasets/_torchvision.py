"""Data sets of torchvision, as arrays."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from antibackdoor.datasets._dataset import Dataset
from antibackdoor.datasets._images import decode_images

#: Arguments of torchvision's classes for the training and the test part.
_TRAIN_OR_NOT: tuple[dict[str, Any], ...] = ({"train": True}, {"train": False})
_SPLIT: tuple[dict[str, Any], ...] = ({"split": "train"}, {"split": "test"})


def import_torchvision_datasets(name: str) -> Any:
    """Import `torchvision.datasets`.

    Parameters
    ----------
    name : str
        Name of the data set, for the message.

    Raises
    ------
    ImportError
        If it is not installed, or was built for another torch.
    """
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:
        # RuntimeError: a torchvision built for another torch fails as it registers operators.
        raise ImportError(
            f"name={name!r} is read by torchvision, which cannot be imported here ({error}); "
            f"'digits' and .npz files do without it."
        ) from error
    return datasets


def _load_arrays(name: str, kind: str, folder: str, data_root: Path, *, download: bool) -> Dataset:
    """Load a data set whose parts torchvision holds as arrays.

    Parameters
    ----------
    kind : str
        Class of torchvision.
    folder : str
        In `data_root`.
    """
    train, test = _open_parts(name, kind, _TRAIN_OR_NOT, data_root, [folder], download)
    return Dataset(
        np.asarray(train.data),
        _to_labels(train.targets),
        np.asarray(test.data),
        _to_labels(test.targets),
        tuple(train.classes),
    )


#: 50,000 and 10,000 photographs of 32 x 32 pixels, 10 or 100 classes: A. Krizhevsky, "Learning
#: Multiple Layers of Features from Tiny Images", 2009.
load_cifar10 = partial(_load_arrays, "cifar10", "CIFAR10", "cifar-10-batches-py")
load_cifar100 = partial(_load_arrays, "cifar100", "CIFAR100", "cifar-100-python")

#: 60,000 and 10,000 grey images of 28 x 28 pixels, 10 classes: H. Xiao, K. Rasul and R. Vollgraf,
#: "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms", 2017.
load_fashion_mnist = partial(_load_arrays, "fashion-mnist", "FashionMNIST", "FashionMNIST")


def load_svhn(data_root: Path, *, download: bool) -> Dataset:
    """Load SVHN's cropped house numbers [1]_: 73,257 and 26,032 of 32 x 32 pixels, 10 digits.

    Parameters
    ----------
    data_root : Path
        Folder of ``train_32x32.mat`` and ``test_32x32.mat``.

    References
    ----------
    .. [1] Y. Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature
       Learning", NIPS Workshop 2011.
    """
    files = ["train_32x32.mat", "test_32x32.mat"]
    train, test = _open_parts("svhn", "SVHN", _SPLIT, data_root, files, download)
    return Dataset(
        # torchvision puts the channels first. This moves them last, without a copy.
        np.moveaxis(train.data, 1, -1),
        _to_labels(train.labels),
        np.moveaxis(test.data, 1, -1),
        _to_labels(test.labels),
        tuple("0123456789"),
    )


def load_gtsrb(data_root: Path, *, download: bool, image_size: int = 32) -> Dataset:
    """Load GTSRB [1]_: photographs of German traffic signs, 43 classes.

    Parameters
    ----------
    data_root : Path
        Folder of ``gtsrb``.
    image_size : int, default=32
        Height and width that the signs, 15 to 250 pixels wide, are resized to.

    Returns
    -------
    Dataset
        The classes are named by their numbers.

    References
    ----------
    .. [1] J. Stallkamp et al., "Man vs. computer: Benchmarking machine learning algorithms
       for traffic sign recognition", Neural Networks 32, 2012.
    """
    train, test = _open_parts("gtsrb", "GTSRB", _SPLIT, data_root, ["gtsrb"], download)
    # Private, but torchvision has the paths nowhere else, and an error must name them.
    X_test, y_test = decode_images(test._samples, image_size)
    X_train, y_train = decode_images(train._samples, image_size)
    return Dataset(
        X_train, y_train, X_test, y_test, tuple(str(label) for label in np.unique(y_train))
    )


def _open_parts(
    name: str,
    torchvision_class: str,
    parts: Sequence[dict[str, Any]],
    data_root: Path,
    wanted: Sequence[str],
    download: bool,
) -> list[Any]:
    """Return torchvision's data set for each part, or raise with how to get it."""
    missing = [str(data_root / path) for path in wanted if not (data_root / path).exists()]
    if missing and not download:
        raise FileNotFoundError(
            f"name={name!r} is not in data_root={str(data_root)!r}: there is no "
            f"{' and no '.join(missing)}. Give download=True (`--download` on the command "
            f"line) to fetch it, or the data_root where you have it."
        )
    open_part = getattr(import_torchvision_datasets(name), torchvision_class)
    try:
        return [open_part(data_root, **part, download=download) for part in parts]
    # The first two are errors of a download, the others of torchvision's readers on damaged
    # files.
    except (
        OSError,
        HTTPException,
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        AssertionError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        if download:
            problem = "could not be downloaded, or is damaged"
            advice = "Check the connection, or remove the incomplete files and try again."
        else:
            problem = "is incomplete or damaged"
            advice = (
                "Remove it and give download=True (`--download` on the command line) to fetch "
                "it again."
            )
        raise OSError(
            f"name={name!r} in data_root={str(data_root)!r} {problem} "
            f"({type(error).__name__}: {error}). {advice}"
        ) from error


def _to_labels(labels: Any) -> np.ndarray:
    return np.asarray(labels, dtype=np.int64)
