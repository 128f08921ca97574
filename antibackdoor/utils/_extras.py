"""Packages that are not always there."""

from __future__ import annotations

from importlib import import_module


def require(caller: str, extra: str, *packages: str) -> None:
    """See that the packages of an extra are there.

    Parameters
    ----------
    caller : str
        What needs them, for the message.
    extra : str
        That brings them.
    *packages : str

    Raises
    ------
    ImportError
        If one does not import; the message says how to get it.
    """
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise ImportError(
                f"{caller} needs {package}: pip install {package}, or '.[{extra}]' in a clone of "
                f"antibackdoor."
            ) from error
