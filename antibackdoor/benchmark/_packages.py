"""What tables and plots need besides the package itself."""

from __future__ import annotations

from antibackdoor.utils import require

# pandas imports jinja2 and tabulate for LaTeX and Markdown, and would miss them late.
_PACKAGES = ("jinja2", "matplotlib", "pandas", "tabulate")


def check_packages() -> None:
    """Check that the packages for tables and plots are installed, before hours of training.

    Raises
    ------
    ImportError
        If a package is missing; the message says how to get it.

    Examples
    --------
    >>> from antibackdoor.benchmark import check_packages
    >>> check_packages()  # doctest: +SKIP
    """
    require("a table", "bench", *_PACKAGES)
