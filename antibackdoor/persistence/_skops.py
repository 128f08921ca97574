"""skops, which reads and writes the files: an extra."""

from __future__ import annotations

from typing import Any

from antibackdoor.utils import require


def import_skops() -> Any:
    """Return `skops.io`.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra.
    """
    require("a model file", "persist", "skops")
    import skops.io

    return skops.io
