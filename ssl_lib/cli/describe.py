"""Describes a component and its arguments, from its signature and docstring."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import textwrap
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from ssl_lib.config.convert import REQUIRED, arguments_of
from ssl_lib.config.resolve import GIVEN
from ssl_lib.registry import PRESETS, Registry
from ssl_lib.views import ViewConfig

__all__ = ["described", "show_part"]


def show_part(registry: Registry, name: str) -> None:
    """Prints a component's description, and its arguments with types, defaults and meanings."""
    about, meanings = described(registry[name])
    for base in getattr(registry[name], "__mro__", ())[1:]:  # of inherited arguments
        meanings = {**described(base)[1], **meanings}
    if registry is PRESETS:  # their `size` is that of their views
        meanings = {**described(ViewConfig)[1], **meanings}
    arguments = arguments_of(registry[name], GIVEN.get(registry, ()))
    print(f"{about}\n\narguments:{'' if arguments else ' none'}")
    for name, argument in arguments.items():
        value = "" if argument.default is REQUIRED else f" = {argument.default!r}"
        print(f"  {name}: {_type_name(argument.annotation)}{value}")
        for line in textwrap.wrap(meanings.get(name, ""), 100):
            print(f"      {line}")
    if registry is PRESETS:
        print(f"  and, for all views: {', '.join(field.name for field in dataclasses.fields(ViewConfig))}")


def _type_name(annotation: Any) -> str:
    """Formats a type as `str | Path | None`: the same in every Python version, without module names."""
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(map(_type_name, get_args(annotation)))
    if annotation is NoneType:
        return "None"
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", inspect.formatannotation(annotation))


def described(part: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Splits a docstring into the description and the meanings of the arguments (`Args` or `Attributes`)."""
    text = inspect.getdoc(part.func if isinstance(part, functools.partial) else part) or ""
    about, *sections = re.split(r"\n\n(?=(?:Args|Attributes|Returns|Raises):\n)", text)
    named = [section for section in sections if section.startswith(("Args:\n", "Attributes:\n"))]
    entries = [entry.partition(":") for section in named for entry in re.split(r"\n    (?=\w)", section)[1:]]
    return about, {name: " ".join(meaning.split()) for names, _, meaning in entries for name in names.split(", ")}
