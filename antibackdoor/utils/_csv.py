"""Cells of tables that a spreadsheet opens without computing any."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

# What begins a formula. A spreadsheet takes the minus sign of typesetting for a hyphen.
_FORMULA_SIGNS = ("=", "+", "-", "@", "\N{MINUS SIGN}")

# What computes to itself.
_NUMBER = re.compile(r"-?\d+(\.\d*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

# Letters and a symbol that show nothing: what else is invisible has a category of its own.
_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"


def safe_cell(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula.

    The page of `write_report` has the same rule in JavaScript (report.js).

    Parameters
    ----------
    cell : object
        A number stays as it is. A text gets a ``'`` before it if it begins with ``=``, ``+``,
        ``-`` or ``@``, or with another spelling of these, such as the full-width one. Space and
        invisible characters before the sign are overlooked. So does a text that begins with a
        control character. A text that is a negative number stays as it is.

    Returns
    -------
    object

    Examples
    --------
    >>> from antibackdoor.utils import safe_cell
    >>> safe_cell("=1+1"), safe_cell("cat"), safe_cell("-3")
    ("'=1+1", 'cat', '-3')
    """
    return f"'{cell}" if isinstance(cell, str) and _may_be_formula(cell) else cell


def _may_be_formula(text: str) -> bool:
    if _NUMBER.fullmatch(text):
        return False
    if unicodedata.category(text[:1] or " ") == "Cc":
        return True
    seen = next((sign for sign in text if not _is_blank(sign)), "")
    # One by one: an equals sign and an accent together would make another sign.
    return unicodedata.normalize("NFKC", seen).startswith(_FORMULA_SIGNS)


def _is_blank(sign: str) -> bool:
    """Tell a sign that is white space, invisible, or of no width of its own."""
    return unicodedata.category(sign)[0] in "ZCM" or sign in _BLANK_LETTERS
