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

    Examples
    --------
    >>> from antibackdoor.benchmark import Variant
    >>> Variant.parse("abl(epochs=30)")
    Variant(name='abl', params={'epochs': 30})
    >>> str(Variant("abl", {"epochs": 30}))
    'abl(epochs=30)'
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
            return cls(match["name"], parse_params((match["arguments"] or "()")[1:-1]))
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}; {wanted}.") from error

    def __str__(self) -> str:
        return f"{self.name}({spell(self.params)})" if self.params else self.name


def parse_params(text: str) -> dict[str, Any]:
    """Read ``parameter=value, ...``.

    Raises
    ------
    ValueError
        If it is no such text; values must be literals, nothing is evaluated.
    """
    try:
        call = ast.parse(f"_({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("parameters have names")
        params = {}
        for word in call.keywords:
            if word.arg is None:  # a dictionary spread out with **
                raise ValueError("parameters have names")
            params[word.arg] = ast.literal_eval(word.value)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{text!r}, where parameter=value, ... is wanted: {error}") from error
    return params


def spell(params: Mapping[str, Any]) -> str:
    """Write parameters as `parse_params` reads them, in one order."""
    return ", ".join(f"{name}={value!r}" for name, value in sorted(params.items()))


def find_maker(
    argument: str, name: str, registry: Mapping[str, Callable[..., Any]]
) -> Callable[..., Any]:
    """Return the class or function that a name stands for.

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

    Examples
    --------
    >>> from antibackdoor.attacks import ATTACKS
    >>> from antibackdoor.benchmark import find_maker
    >>> find_maker("attack", "badnets", ATTACKS).__name__
    'BadNets'
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
        raise ValueError(
            f"{argument}={name!r} cannot be imported: {error}. A file of your own is found where "
            f"Python looks for modules: PYTHONPATH=FOLDER antibackdoor ..."
        ) from error
