"""Poisoned data made from anyone's arrays, and clean data sets by name."""

from antibackdoor.datasets._dataset import Dataset
from antibackdoor.datasets._digits import load_digits_images
from antibackdoor.datasets._named import DATASETS, load_dataset
from antibackdoor.datasets._poison import make_poisoned

__all__ = ["DATASETS", "Dataset", "load_dataset", "load_digits_images", "make_poisoned"]
