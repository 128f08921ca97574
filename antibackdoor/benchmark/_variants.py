"""Attacks and defences by name, with parameters of their own, as one piece of text."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_SPELLING = re.compile(r"(?P<name>[A-Za-z_][\w.-]*)\s*(?P<arguments>\(.*\))?", re.DOTALL)


@dataclass(frozen=True)
class Variant:
    """A name and parameters, which is written as a call: ``abl(gamma=0.3)``.

    Attributes
    ----------
    name : str
    params : dict of str to object
        Literals of Python.
    """

    name: str
    params: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read ``name`` or ``name(parameter=value, ...)``.

        Parameters
        ----------
        text : str

        Returns
        -------
        Variant

        Raises
        ------
        TypeError
            If it is no text.
        ValueError
            If it is neither; values must be literals, nothing is evaluated.
        """
        if not isinstance(text, str):
            raise TypeError(f"{text!r} is a {type(text).__name__}; wanted text.")
        match = _SPELLING.fullmatch(text.strip())
        wanted = "wanted a name, or a name with parameters such as abl(gamma=0.3)"
        if match is None:
            raise ValueError(f"{text!r}; {wanted}.")
        try:
            call = ast.parse(f"_{match['arguments'] or '()'}", mode="eval").body
            if not isinstance(call, ast.Call) or call.args:
                raise ValueError("parameters have names")
            params = {}
            for word in call.keywords:
                if word.arg is None:  # a dictionary spread out with **
                    raise ValueError("parameters have names")
                params[word.arg] = ast.literal_eval(word.value)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"{text!r}: {error}; {wanted}.") from error
        return cls(match["name"], params)

    def __str__(self) -> str:
        if not self.params:
            return self.name
        words = ", ".join(f"{name}={value!r}" for name, value in sorted(self.params.items()))
        return f"{self.name}({words})"


def find_maker(
    argument: str, name: str, registry: Mapping[str, Callable[..., Any]]
) -> Callable[..., Any]:
    """Return what makes the thing that a name stands for.

    Parameters
    ----------
    argument : str
        What it is, for the message.
    name : str
        A key of the registry, or the path of a class or function of the user's:
        ``package.module.Name``.
    registry : mapping of str to callable

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        If there is no such name, or nothing to import at the path.
    """
    if name in registry:
        return registry[name]
    module, _, attribute = name.rpartition(".")
    if not module:
        raise ValueError(
            f"{argument}={name!r}; wanted one of {sorted(registry)} or a path to import, "
            f"such as package.module.Name."
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{argument}={name!r} cannot be imported: {error}.") from error
