"""What tables and plots need besides the package itself."""

from __future__ import annotations

from antibackdoor.utils import require

# pandas imports jinja2 and tabulate for LaTeX and Markdown, and would miss them late.
_PACKAGES = ("jinja2", "matplotlib", "pandas", "tabulate")


def check_packages() -> None:
    """See that tables and plots can be made, before hours are spent on their rows.

    Raises
    ------
    ImportError
        If a package is missing; the message says how to get it.
    """
    require("a table", "bench", *_PACKAGES)
