"""The command `antibackdoor`."""

from antibackdoor.cli._main import main

__all__ = ["main"]
