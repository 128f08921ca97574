"""Folders with a training and a test part, in the layout of ImageNet subsets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from antibackdoor.datasets._dataset import Dataset, listed
from antibackdoor.datasets._images import decode_images, find_depth
from antibackdoor.datasets._torchvision import import_torchvision_datasets


def load_imagefolder(data_root: Path, *, download: bool, image_size: int = 224) -> Dataset:
    """Load ``data_root/train/CLASS/`` and ``data_root/val/CLASS/``, the layout of ImageNet subsets.

    Parameters
    ----------
    data_root : Path
        Folder with ``train`` and ``val``, or ``test`` if there is no ``val``.
    download : bool
        No effect: these images are the user's own.
    image_size : int, default=224
        Height and width to resize images to. A row takes three times the square of it in bytes.

    Returns
    -------
    Dataset
        RGB images; classes in the order of their folders' names.

    Raises
    ------
    FileNotFoundError
        If a folder is missing, or a class has no image.
    ValueError
        If the two parts have different classes, or a file cannot be decoded.
    """
    train_folder = _find_part(data_root, "train")
    test_folder = _find_part(data_root, "val", "test")
    train, test = _open_folder(train_folder), _open_folder(test_folder)
    if train.classes != test.classes:
        raise ValueError(
            f"{_difference(train_folder, train, test_folder, test)}; "
            f"wanted the same class folders in both."
        )
    if len(train.classes) < 2:
        raise ValueError(
            f"{train_folder} holds one class folder, {train.classes[0]!r}; wanted two or more."
        )
    depth = find_depth(Path(path) for path, _ in (*train.samples, *test.samples))
    X_test, y_test = decode_images(test.samples, image_size, depth=depth)
    X_train, y_train = decode_images(train.samples, image_size, depth=depth)
    return Dataset(X_train, y_train, X_test, y_test, tuple(train.classes))


def _find_part(data_root: Path, *names: str) -> Path:
    for name in names:
        if (data_root / name).is_dir():
            return data_root / name
    raise FileNotFoundError(
        f"name='imagefolder' is not in data_root={str(data_root)!r}: there is no folder "
        f"{' and no '.join(str(data_root / name) for name in names)}; wanted train/CLASS/ and "
        f"val/CLASS/ (or test/CLASS/) with the images of each class. It cannot be downloaded."
    )


def _open_folder(folder: Path) -> Any:
    datasets = import_torchvision_datasets("imagefolder")
    try:
        return datasets.ImageFolder(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"name='imagefolder': {folder} must hold a folder for each class, with images in "
            f"it: {error}"
        ) from error


def _difference(train_folder: Path, train: Any, test_folder: Path, test: Any) -> str:
    """Return a message that names the class folders which only one part has."""
    sides = [
        (train_folder, sorted(set(train.classes) - set(test.classes)), test_folder),
        (test_folder, sorted(set(test.classes) - set(train.classes)), train_folder),
    ]
    return ", ".join(
        f"{there} has {listed(extra)}, which {elsewhere} lacks"
        for there, extra, elsewhere in sides
        if extra
    )
