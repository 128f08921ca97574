"""The package's public names: which methods are its own, and what a name in a docstring means."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import cache

from docutils import nodes
from sphinx.util.inspect import stringify_signature

#: Highest first: a name that two of them export is documented under the first.
PACKAGES = (
    "antibackdoor",
    "antibackdoor.defenses",
    "antibackdoor.attacks",
    "antibackdoor.datasets",
    "antibackdoor.metrics",
    "antibackdoor.inspection",
    "antibackdoor.persistence",
    "antibackdoor.benchmark",
    "antibackdoor.cli",
    "antibackdoor.backbones",
    "antibackdoor.detection",
    "antibackdoor.training",
    "antibackdoor.utils",
)


@cache
def documented():
    """Where each public name is documented, by its last part."""
    places = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            places.setdefault(name, f"{package}.{name}")
    return places


def own_methods():
    """Public methods that are not scikit-learn's, torch's or Python's, by class."""
    found = {}
    for place in documented().values():
        package, name = place.rsplit(".", 1)
        cls = getattr(importlib.import_module(package), name)
        if not inspect.isclass(cls):
            continue
        found[place] = sorted(
            member
            for member, value in inspect.getmembers(cls, inspect.isroutine)
            if not member.startswith("_")
            and getattr(value, "__module__", "").startswith("antibackdoor")
        )
    return found


def resolve(app, env, node, contnode):
    """Find what a name in a docstring means that Sphinx has not found by its full path.

    Docstrings call things by their short names, and by the subpackage they live in even if
    the package exports them too. Parameters and names of other packages are left as code.
    """
    if node.get("refdomain") != "py" or node.get("reftype") != "obj":
        return None
    target = node["reftarget"]
    parts = target.removeprefix("antibackdoor.").split(".")
    for end in range(len(parts), 0, -1):
        place = documented().get(parts[end - 1])
        if place is None:
            continue
        full = ".".join([place, *parts[end:]])
        if full in env.domains["py"].objects:
            return env.domains["py"].resolve_xref(
                env, node["refdoc"], app.builder, "obj", full, node, contnode
            )
    if target.startswith("antibackdoor."):
        return None  # a warning: there is no such thing
    return nodes.literal("", contnode.astext())


# In reST these are emphasis and a link, and the name of a substitution; in our docstrings they are
# shapes such as (n, *input_shape_), and absolute values. Code in double backticks is left alone.
_NOT_MARKUP = re.compile(r"(``.*?``)|\*(\w+)_(?=\))|(\|)")


def escape(app, what, name, obj, options, lines):
    """Let shapes and absolute values in a docstring stand as they are."""

    def escaped(match):
        code, shape, _ = match.groups()
        if code:
            return code
        return rf"\*{shape}\_" if shape else r"\|"

    lines[:] = [
        line if line.lstrip().startswith((">>>", "...")) else _NOT_MARKUP.sub(escaped, line)
        for line in lines
    ]


def constructor(app, what, name, obj, options, signature, return_annotation):
    """Give the signature of an estimator: Sphinx shows that of `__new__`, which takes anything."""
    if what != "class" or not hasattr(obj, "get_params"):
        return None
    return stringify_signature(inspect.signature(obj), show_annotation=False), return_annotation


def setup(app):
    """Tell Sphinx of the search for names, and of what precedes numpydoc."""
    app.connect("autodoc-process-docstring", escape, priority=400)
    app.connect("autodoc-process-signature", constructor)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
