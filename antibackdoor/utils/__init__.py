"""Arguments, device, random state and image layouts: what every floor above stands on."""

from antibackdoor.utils._arguments import as_numbers, check_whole_numbers, naming
from antibackdoor.utils._atomic import all_or_nothing
from antibackdoor.utils._device import resolve_device
from antibackdoor.utils._extras import require
from antibackdoor.utils._files import write_whole
from antibackdoor.utils._layout import ImageLayout, resolve_layout
from antibackdoor.utils._lazy_rows import LazyRows
from antibackdoor.utils._mapping import check_whole, cut_short, find_mapping
from antibackdoor.utils._numbers import (
    CheckedParameters,
    check_number,
    is_number,
    plain,
    with_plain_parameters,
)
from antibackdoor.utils._random import (
    draw_seed,
    random_states,
    restore_random_states,
    seeded_torch,
)
from antibackdoor.utils._taken_for import as_labels, as_rows
from antibackdoor.utils._torch import usual_torch

__all__ = [
    "CheckedParameters",
    "ImageLayout",
    "LazyRows",
    "all_or_nothing",
    "as_labels",
    "as_numbers",
    "as_rows",
    "check_number",
    "check_whole",
    "check_whole_numbers",
    "cut_short",
    "draw_seed",
    "find_mapping",
    "is_number",
    "naming",
    "plain",
    "random_states",
    "require",
    "resolve_device",
    "resolve_layout",
    "restore_random_states",
    "seeded_torch",
    "usual_torch",
    "with_plain_parameters",
    "write_whole",
]
