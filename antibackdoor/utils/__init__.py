"""Arguments, device, random state and image layouts: what every floor above stands on."""

from antibackdoor.utils._arguments import as_numbers, check_whole_numbers, naming
from antibackdoor.utils._atomic import all_or_nothing
from antibackdoor.utils._device import resolve_device
from antibackdoor.utils._extras import require
from antibackdoor.utils._files import write_whole
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
from antibackdoor.utils._layout import ImageLayout, resolve_layout
from antibackdoor.utils._lazy_rows import LazyRows
from antibackdoor.utils._npy import read_array_header
from antibackdoor.utils._random import (
    draw_seed,
    random_states,
    restore_random_states,
    seeded_torch,
)
from antibackdoor.utils._torch import usual_torch

__all__ = [
    "HISTORY",
    "MASK_OF_ROWS",
    "Fitted",
    "FittedArray",
    "FittedDict",
    "FittedList",
    "FittedNetwork",
    "FittedNumber",
    "FittedText",
    "FittedTuple",
    "ImageLayout",
    "LazyRows",
    "all_or_nothing",
    "as_numbers",
    "check_whole_numbers",
    "draw_seed",
    "naming",
    "random_states",
    "read_array_header",
    "require",
    "resolve_device",
    "resolve_layout",
    "restore_random_states",
    "seeded_torch",
    "signs_of_classes",
    "usual_torch",
    "write_whole",
]
