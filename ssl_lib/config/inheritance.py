"""Arguments that a class takes by `**kwargs` and passes to the constructor of its base class."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from inspect import Parameter
from itertools import pairwise
from typing import Any

__all__ = ["Inherited", "constructors"]


class Inherited(Parameter):
    """An argument that a constructor takes by `**kwargs`; unless it is given, its value is left to the constructor."""

    __slots__ = ()


def constructors(target: type) -> Iterator[tuple[Callable[..., Any], set[str]]]:
    """Yields the base constructors that get a class's keyword arguments, nearest first.

    A base gets them if the constructor before it in the method resolution order takes `**kwargs` and calls
    `super().__init__(..., **kwargs)`, or the base's constructor by name.

    Yields:
        The base's `__init__`, and the names of the arguments that the constructors before it set themselves.
    """
    fixed: set[str] = set()
    classes = [entry for entry in target.__mro__ if "__init__" in vars(entry)]
    for init, base in pairwise(vars(entry)["__init__"] for entry in classes):
        call = _base_call(init)
        if call is None:
            return
        count, names = call
        fixed |= {*names, *list(inspect.signature(base).parameters)[1:][:count]}
        yield base, set(fixed)


def _base_call(init: Callable[..., Any]) -> tuple[int, set[str]] | None:
    """The number of positional arguments and the names in the call that passes `**kwargs` on; None without such a call.

    A constructor without source code, which was typed into a terminal, is taken to pass on all that it gets.
    """
    kinds = {parameter.kind: name for name, parameter in inspect.signature(init).parameters.items()}
    if Parameter.VAR_KEYWORD not in kinds:
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError):
        return 0, set()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "__init__"):
            continue
        unpacked = [name for keyword in node.keywords if keyword.arg is None for name in ast.walk(keyword.value)]
        if any(isinstance(name, ast.Name) and name.id == kinds[Parameter.VAR_KEYWORD] for name in unpacked):
            by_name = not ast.unparse(node.func.value).startswith("super(")  # Base.__init__(self, ...)
            given = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
            return len(given) - by_name, {keyword.arg for keyword in node.keywords if keyword.arg}
    return None
