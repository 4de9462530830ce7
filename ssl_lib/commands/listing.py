"""`ssl-lib list`: what can be named in a config."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

import ssl_lib.backbones
import ssl_lib.evaluation
import ssl_lib.loggers
import ssl_lib.losses
import ssl_lib.methods  # noqa: F401  (these imports fill the registries)
from ssl_lib.commands.common import bundled_configs, find_config
from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.registry import BACKBONES, DATASETS, LOGGERS, LOSSES, METHODS, OPTIMIZERS, PRESETS, PROTOCOLS
from ssl_lib.resolve import GIVEN
from ssl_lib.schema import REQUIRED, arguments_of
from ssl_lib.views import ViewConfig

__all__ = ["KINDS", "add", "described"]

KINDS = {
    "methods": METHODS,
    "losses": LOSSES,
    "backbones": BACKBONES,
    "data": DATASETS,
    "views": PRESETS,
    "optimizers": OPTIMIZERS,
    "protocols": PROTOCOLS,
    "loggers": LOGGERS,
}


def add(commands: Any) -> None:
    """Enters the command."""
    parser = commands.add_parser("list", allow_abbrev=False, help="what can be named in a config")
    parser.add_argument("kind", nargs="?", help=f"one of {', '.join([*KINDS, 'configs'])}; all of them by default")
    parser.add_argument("name", nargs="?", help="a part of that kind, to see its arguments")
    parser.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> None:
    kinds = [*KINDS, "configs"]
    if options.kind is None:
        for kind in kinds:
            print(f"{kind}:")
            for name, summary in _collapsed(_entries(kind), kind):
                print(f"  {name:<24} {summary}".rstrip())
        print("\nssl-lib list KIND NAME shows a part's arguments.")
        return
    if options.kind not in kinds:
        raise ConfigError(f"unknown kind {options.kind!r}.{did_you_mean(options.kind, kinds)}")
    if options.name is None:
        for name, summary in _entries(options.kind):
            print(f"  {name:<24} {summary}".rstrip())
    elif options.kind == "configs":
        print(find_config(options.name).read_text(encoding="utf-8"), end="")
    else:
        _show(options.kind, options.name)


def _show(kind: str, name: str) -> None:
    """Prints what a part is, and its arguments with their types and defaults."""
    registry = KINDS[kind]
    part = registry[name]
    about, meanings = described(part)
    arguments = arguments_of(part, GIVEN.get(registry, ()))
    print(f"{about}\n\narguments:{'' if arguments else ' none'}")
    for name, argument in arguments.items():
        value = "" if argument.default is REQUIRED else f" = {argument.default!r}"
        print(f"  {name}: {inspect.formatannotation(argument.annotation)}{value}")
        for line in textwrap.wrap(meanings.get(name, ""), 100):
            print(f"      {line}")
    if registry is PRESETS:
        print(f"  and in all of its views: {', '.join(field.name for field in dataclasses.fields(ViewConfig))}")


def described(part: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What a part's docstring says of it, and of each argument in its `Args` or, of a dataclass, its `Attributes`."""
    text = inspect.getdoc(part.func if isinstance(part, functools.partial) else part) or ""
    about, *sections = re.split(r"\n\n(?=(?:Args|Attributes|Returns|Raises):\n)", text)
    named = [section for section in sections if section.startswith(("Args:\n", "Attributes:\n"))]
    entries = [entry.partition(":") for section in named for entry in re.split(r"\n    (?=\w)", section)[1:]]
    return about, {name: " ".join(said.split()) for names, _, said in entries for name in names.split(", ")}


def _collapsed(entries: list[tuple[str, str]], kind: str) -> list[tuple[str, str]]:
    """One entry for many names that share a summary, such as torchvision's networks."""
    counts = collections.Counter(summary for _, summary in entries)
    first = {summary: name for name, summary in reversed(entries) if counts[summary] > 10}
    return [
        (f"{name}, ...", f"{summary} {counts[summary]} names: ssl-lib list {kind}")
        if summary in first
        else (name, summary)
        for name, summary in entries
        if first.get(summary, name) == name
    ]


def _entries(kind: str) -> list[tuple[str, str]]:
    if kind == "configs":
        return bundled_configs()
    registry = KINDS[kind]
    return [(name, (inspect.getdoc(registry[name]) or "").partition("\n")[0]) for name in registry]
