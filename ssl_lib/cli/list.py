"""`ssl-lib list`: lists the available components and configs."""

from __future__ import annotations

import argparse
import inspect
import textwrap

from ssl_lib.cli.common import bundled_configs, find_config
from ssl_lib.cli.console import ctrl_c_ends
from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.registry import KINDS, METHODS, Registry

__all__ = ["registry_of", "run_list"]

_KINDS = (*KINDS, "losses", "configs")
_MANY = 10  # names with the same summary that are listed one by one at most


@ctrl_c_ends()
def run_list(options: argparse.Namespace) -> None:
    """Runs `ssl-lib list`."""
    if options.kind is None:
        for kind in _KINDS:
            print(f"{kind}:")
            _print_entries(kind)
        print("\nssl-lib list KIND NAME shows a component's arguments.")
    elif options.kind not in _KINDS:
        raise _no_kind(options.kind)
    elif options.name is None:
        _print_entries(options.kind)
    elif options.kind == "configs":
        print(find_config(options.name).read_text(encoding="utf-8"), end="")
    else:
        from ssl_lib.cli.describe import show_part  # and torch

        show_part(registry_of(options.kind), options.name)


def _no_kind(word: str) -> ConfigError:
    """The error for an unknown kind; if it is a component's name, the message gives the command."""
    homes = [kind for kind in _KINDS if word in (name for name, _ in _entries(kind))]
    if not homes:
        return ConfigError(f"unknown kind {word!r}.{did_you_mean(word, _KINDS)}")
    return ConfigError(f"{word} is not a kind, but one of the {' and '.join(homes)}: ssl-lib list {homes[0]} {word}")


def _print_entries(kind: str) -> None:
    """Prints a line per name, and one paragraph of names with the same summary, such as torchvision's networks."""
    groups = dict[str, list[tuple[str, str]]]()
    for name, summary in _entries(kind):
        family = getattr(METHODS[name], "family", "other").replace("_", " ") if kind == "methods" else ""
        groups.setdefault(family, []).append((name, summary))
    for family, entries in groups.items():
        if family:
            print(f"{family}:")
        _print_group(kind, entries)


def _print_group(kind: str, entries: list[tuple[str, str]]) -> None:
    alike = dict[str, list[str]]()
    for name, summary in entries:
        alike.setdefault(summary.removeprefix(f"{name} "), []).append(name)
    many = {summary: names for summary, names in alike.items() if len(names) > _MANY}
    single = [(name, summary) for name, summary in entries if summary.removeprefix(f"{name} ") not in many]
    width = max([24, *(len(name) for name, _ in single)])
    for name, summary in single:
        print(f"  {name:<{width}} {summary}".rstrip())
    for summary, names in many.items():
        print(f"  {len(names)} {kind} {summary}")
        print(textwrap.fill(", ".join(names), 100, initial_indent="    ", subsequent_indent="    "))


def _entries(kind: str) -> list[tuple[str, str]]:
    if kind == "configs":
        return bundled_configs()
    parts = registry_of(kind)
    return [(name, (inspect.getdoc(parts[name]) or "").partition("\n")[0]) for name in parts]


def registry_of(kind: str) -> Registry:
    """The components of a kind by name. Losses have no registry of their own: they are named by their classes."""
    if kind != "losses":
        return KINDS[kind]
    from torch import nn

    import ssl_lib.losses as losses

    registry = Registry("loss")
    for name in losses.__all__:
        part = getattr(losses, name)
        if isinstance(part, type) and issubclass(part, nn.Module):
            registry.register(name)(part)
    return registry
