"""What a file says of itself: format, version of the package, digest."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from antibackdoor.persistence._digest import digest_of
from antibackdoor.persistence._schema import read_plain

#: Key of the stamp in a model's state.
STAMP = "_file"

#: Raised when files are written that an older version of the package cannot read.
FORMAT = 1


def make_stamp(state: dict[str, Any]) -> dict[str, Any]:
    """Return the stamp of a state that has none yet."""
    return {"format": FORMAT, "antibackdoor": version("antibackdoor"), "digest": digest_of(state)}


def check_format(schema: dict[str, Any]) -> str:
    """Refuse a format that this version does not know.

    Parameters
    ----------
    schema : dict
        Parsed, and not checked: a newer format may have nodes that this version does not know.

    Returns
    -------
    str
        Which version wrote the file, for messages.

    Raises
    ------
    ValueError
        If the format is newer, or is none.
    """
    number = read_plain(schema, STAMP, "format")
    writer = read_plain(schema, STAMP, "antibackdoor")
    if number is None and writer is None:
        return "a version of antibackdoor that did not say its number"
    if type(number) is not int or number < 1 or not isinstance(writer, str):
        raise ValueError(f"it says that its format is {number!r} of version {str(writer)[:40]!r}")
    named = f"antibackdoor {writer[:40]!r}"
    if number > FORMAT:
        raise ValueError(
            f"it was written by {named} in format {number}; this is antibackdoor "
            f"{version('antibackdoor')!r}, which reads formats up to {FORMAT}: install a newer one"
        )
    return named


def take_stamp(state: dict[str, Any]) -> None:
    """Take the stamp out of a state, and compare its digest with the rest.

    A file of plain `skops.io.dump`, such as older versions told users to write, has none.

    Raises
    ------
    ValueError
        If the state is not the one that was written.
    """
    stamp = state.pop(STAMP, None)
    if stamp is None:
        return
    if not isinstance(stamp, dict) or set(stamp) != {"format", "antibackdoor", "digest"}:
        raise ValueError("it does not say format, version and digest as save_model does")
    if stamp["digest"] != digest_of(state):
        raise ValueError(
            "its digest is not that of what it holds: weights or other values were swapped or "
            "changed after it was written"
        )
