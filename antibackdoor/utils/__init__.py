"""Helpers for arguments, devices, random states, files and layouts."""

from antibackdoor.utils._arguments import naming
from antibackdoor.utils._csv import safe_cell
from antibackdoor.utils._device import resolve_device
from antibackdoor.utils._extras import require
from antibackdoor.utils._files import remove_abandoned, write_whole
from antibackdoor.utils._fitted import Fitted, FittedArray, FittedNumber, FittedTuple
from antibackdoor.utils._fitted_parts import HISTORY, MASK_OF_ROWS, FittedNetwork, signs_of_classes
from antibackdoor.utils._labels import as_labels
from antibackdoor.utils._layout import ImageLayout, resolve_layout
from antibackdoor.utils._lazy_rows import LazyRows
from antibackdoor.utils._numbers import CheckedParameters, check_count, plain
from antibackdoor.utils._parameters import parameters
from antibackdoor.utils._random import draw_seed, kept_global_states, seeded_torch
from antibackdoor.utils._taken_for import as_rows
from antibackdoor.utils._time import in_words

__all__ = [
    "CheckedParameters",
    "Fitted",
    "FittedArray",
    "FittedNetwork",
    "FittedNumber",
    "FittedTuple",
    "HISTORY",
    "ImageLayout",
    "LazyRows",
    "MASK_OF_ROWS",
    "as_labels",
    "as_rows",
    "check_count",
    "draw_seed",
    "in_words",
    "kept_global_states",
    "naming",
    "parameters",
    "plain",
    "remove_abandoned",
    "require",
    "resolve_device",
    "resolve_layout",
    "safe_cell",
    "seeded_torch",
    "signs_of_classes",
    "write_whole",
]
