"""Docstrings in which a parameter is described once, in the class that it belongs to."""

from __future__ import annotations

import inspect
import re

# Sections of numpydoc whose entries may be left to a base.
_SECTIONS = ("Parameters", "Attributes")

# Names alone: an entry has a type behind its names, or a description below them.
_NAMES = re.compile(r"[A-Za-z_]\w*(, [A-Za-z_]\w*)*,?")


def describe(kind: type) -> None:
    """Fill in the docstring of a class what its bases say of the names that it only lists."""
    if not vars(kind).get("__doc__"):  # python -OO keeps none
        return
    lines = inspect.cleandoc(kind.__doc__ or "").splitlines()
    filled: list[str] = []
    section = ""
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if below.startswith("---"):
            section = line
        is_left_out = section in _SECTIONS and line != section and not below.startswith(" ")
        if is_left_out and _NAMES.fullmatch(line):
            for name in line.strip(",").split(", "):
                filled += _entry(kind, name)
        else:
            filled.append(line)
    kind.__doc__ = "\n".join(filled)


def _entry(kind: type, name: str) -> list[str]:
    """Return the lines of the nearest base that describes a name; if none does, the name."""
    for base in kind.__mro__[1:]:
        text = inspect.cleandoc(vars(base).get("__doc__") or "")
        found = re.search(rf"^{name} : .*(\n+ .*)*", text, re.MULTILINE)
        if found:
            return found[0].splitlines()
    return [name]
