"""Poisoning of arrays and image folders, and loaders of data sets and images."""

from antibackdoor.datasets._dataset import Dataset
from antibackdoor.datasets._digits import load_digits_images
from antibackdoor.datasets._labelled_images import (
    LabelledImages,
    load_image_folder,
    open_image_folder,
)
from antibackdoor.datasets._named import DATASETS, load_dataset
from antibackdoor.datasets._npz import load_arrays
from antibackdoor.datasets._poison import make_poisoned
from antibackdoor.datasets._poison_folder import PoisonedFile, poison_image_folder

__all__ = [
    "DATASETS",
    "Dataset",
    "LabelledImages",
    "PoisonedFile",
    "load_arrays",
    "load_dataset",
    "load_digits_images",
    "load_image_folder",
    "make_poisoned",
    "open_image_folder",
    "poison_image_folder",
]
