"""`ssl-lib list`: lists the available components and configs."""

from __future__ import annotations

import argparse
import collections
import difflib
import inspect

from ssl_lib.cli.common import bundled_configs, find_config
from ssl_lib.cli.console import ctrl_c_ends
from ssl_lib.errors import ConfigError, did_you_mean
from ssl_lib.registry import KINDS, Registry

__all__ = ["listed_kinds", "registry_of", "run_list"]


@ctrl_c_ends()
def run_list(options: argparse.Namespace) -> None:
    """Runs `ssl-lib list`."""
    kinds = listed_kinds()
    if options.kind is None:
        for kind in kinds:
            print(f"{kind}:")
            for name, summary in _collapsed(_entries(kind), kind):
                print(f"  {name:<24} {summary}".rstrip())
        print("\nssl-lib list KIND NAME shows a component's arguments.")
        return
    if options.kind not in kinds:
        raise _no_kind(options.kind, kinds)
    if options.name is None:
        for name, summary in _entries(options.kind):
            print(f"  {name:<24} {summary}".rstrip())
    elif options.kind == "configs":
        print(find_config(options.name).read_text(encoding="utf-8"), end="")
    else:
        from ssl_lib.cli.describe import show_part  # and torch

        show_part(registry_of(options.kind), options.name)


def _no_kind(word: str, kinds: list[str]) -> ConfigError:
    """The error for an unknown kind; if it is a component's name, the message gives the command."""
    unknown = ConfigError(f"unknown kind {word!r}.{did_you_mean(word, kinds)}")
    if difflib.get_close_matches(word, kinds, n=1, cutoff=0.8):
        return unknown
    homes = [kind for kind in kinds if word in (name for name, _ in _entries(kind))]
    if not homes:
        return unknown
    return ConfigError(f"{word} is not a kind, but one of the {' and '.join(homes)}: ssl-lib list {homes[0]} {word}")


def _collapsed(entries: list[tuple[str, str]], kind: str) -> list[tuple[str, str]]:
    """Merges many names with the same summary, such as torchvision's networks, into one entry."""
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
    parts = registry_of(kind)
    return [(name, (inspect.getdoc(parts[name]) or "").partition("\n")[0]) for name in parts]


def listed_kinds() -> list[str]:
    """The kinds of components that `ssl-lib list` takes."""
    return [*KINDS, "losses", "configs"]


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
