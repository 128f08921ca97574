"""Poisoned data made from anyone's arrays, and small data sets that need no download."""

from antibackdoor.datasets._digits import load_digits_images
from antibackdoor.datasets._poison import make_poisoned

__all__ = ["load_digits_images", "make_poisoned"]
