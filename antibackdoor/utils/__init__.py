"""Helpers for arguments, devices, random states, files and layouts."""

from antibackdoor.utils._arguments import (
    as_numbers,
    check_mask,
    check_whole_numbers,
    naming,
)
from antibackdoor.utils._atomic import all_or_nothing
from antibackdoor.utils._csv import safe_cell
from antibackdoor.utils._device import resolve_device
from antibackdoor.utils._extras import require
from antibackdoor.utils._files import remove_abandoned, write_whole
from antibackdoor.utils._fitted import (
    HISTORY,
    MASK_OF_ROWS,
    Fitted,
    FittedArray,
    FittedDict,
    FittedList,
    FittedNetwork,
    FittedNumber,
    FittedText,
    FittedTuple,
    signs_of_classes,
)
from antibackdoor.utils._labels import as_labels, check_comparable, shorten
from antibackdoor.utils._layout import ImageLayout, resolve_layout
from antibackdoor.utils._lazy_rows import LazyRows
from antibackdoor.utils._mapping import check_whole, cut_short, find_mapping
from antibackdoor.utils._npy import read_array_header
from antibackdoor.utils._numbers import (
    CheckedParameters,
    check_count,
    check_number,
    is_number,
    plain,
    with_plain_parameters,
)
from antibackdoor.utils._own_draws import drawing_nothing, drawing_on
from antibackdoor.utils._parameters import parameters
from antibackdoor.utils._random import (
    draw_seed,
    follow_seed,
    kept_global_states,
    random_states,
    restore_random_states,
    seeded_torch,
    torch_generator,
    torch_states,
)
from antibackdoor.utils._surroundings import surroundings
from antibackdoor.utils._taken_for import as_rows
from antibackdoor.utils._time import in_words
from antibackdoor.utils._torch import DefaultFloat32, in_usual_torch, usual_torch

__all__ = [
    "CheckedParameters",
    "DefaultFloat32",
    "Fitted",
    "FittedArray",
    "FittedDict",
    "FittedList",
    "FittedNetwork",
    "FittedNumber",
    "FittedText",
    "FittedTuple",
    "HISTORY",
    "ImageLayout",
    "LazyRows",
    "MASK_OF_ROWS",
    "all_or_nothing",
    "as_labels",
    "as_numbers",
    "as_rows",
    "check_comparable",
    "check_count",
    "check_mask",
    "check_number",
    "check_whole",
    "check_whole_numbers",
    "cut_short",
    "draw_seed",
    "drawing_nothing",
    "drawing_on",
    "find_mapping",
    "follow_seed",
    "in_usual_torch",
    "in_words",
    "is_number",
    "kept_global_states",
    "naming",
    "parameters",
    "plain",
    "random_states",
    "read_array_header",
    "remove_abandoned",
    "require",
    "resolve_device",
    "resolve_layout",
    "restore_random_states",
    "safe_cell",
    "seeded_torch",
    "shorten",
    "signs_of_classes",
    "surroundings",
    "torch_generator",
    "torch_states",
    "usual_torch",
    "with_plain_parameters",
    "write_whole",
]
