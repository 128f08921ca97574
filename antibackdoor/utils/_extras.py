"""Optional packages."""

from __future__ import annotations

from importlib import import_module


def require(caller: str, extra: str, *packages: str) -> None:
    """Check that the packages of an extra are installed.

    Parameters
    ----------
    caller : str
        Name of the caller, for the message.
    extra : str
        The extra that installs them.
    *packages : str

    Raises
    ------
    ImportError
        If one cannot be imported; the message says how to install it.

    Examples
    --------
    >>> from antibackdoor.utils import require
    >>> require("this example", "none", "numpy")
    """
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise ImportError(
                f"{caller} needs {package}: pip install {package}, or '.[{extra}]' in a clone of "
                f"antibackdoor."
            ) from error
