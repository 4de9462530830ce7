"""Recipe lineage: how a config differs from the source that it cites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ssl_lib.utils.yaml import flat

__all__ = ["CHANGED", "Difference", "differences"]

CHANGED = "changed in this run"
"""Reason for a difference that the config does not explain, such as a change on the command line."""

_NOTHING = object()


class Difference(NamedTuple):
    """A difference between a config and its source.

    Attributes:
        key: The full key; or a name, for a difference that is not a setting.
        value: The config's value; None if it has no such key.
        source: The source's value; None for a difference that is not a setting.
        reason: Why they differ.
        setting: Whether `key` is a setting.
    """

    key: str
    value: Any
    source: Any
    reason: str
    setting: bool


def differences(config: Mapping[str, Any]) -> list[Difference]:
    """Compares the settings of a resolved config, as plain values, with the values of its `source`.

    Returns:
        Each setting that differs, in the source's order, and then the differences that are not settings; empty if the
        config cites no source.
    """
    source, settings = config.get("source"), flat(config)
    if not isinstance(source, Mapping):
        return []
    values, reasons = source.get("values") or {}, source.get("differences") or {}
    found = [
        Difference(key, settings.get(key), value, reasons.get(key, CHANGED), True)
        for key, value in values.items()
        if settings.get(key, _NOTHING) != value
    ]
    others = [Difference(name, None, None, reason, False) for name, reason in reasons.items() if name not in values]
    return found + others
