"""skops, which reads and writes the files: an extra."""

from __future__ import annotations

from typing import Any


def import_skops() -> Any:
    """Return `skops.io`.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra.
    """
    try:
        import skops.io
    except ImportError as error:
        raise ImportError(
            "save_model and load_model need skops; install it by "
            "pip install 'antibackdoor[persist]'."
        ) from error
    return skops.io
