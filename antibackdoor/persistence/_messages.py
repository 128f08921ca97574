"""Messages within messages."""

from __future__ import annotations


def without_stop(error: BaseException) -> str:
    """Return the message of an error to be quoted inside a sentence."""
    return str(error).rstrip(".")
