"""YAML as plain values: no tags, no key twice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from ssl_lib.errors import ConfigError

__all__ = ["flat", "parse_yaml"]


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else None)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> Any:
    """Plain values from YAML.

    Raises:
        ConfigError: It is not readable, asks for anything but plain values, or gives a key twice; `source` names it.
    """
    try:
        return yaml.load(text, _StrictLoader)  # a subclass of SafeLoader: builds plain values only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).replace('"<unicode string>"', source)
        raise ConfigError(f"{source} is not readable YAML: {reason}{_quotes(text, error)}") from error


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """A nested mapping as one, by keys such as `method.temperature`; lists of mappings by index: `views[0].size`."""
    if isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
        below = {f"{key}[{index}]": entry for index, entry in enumerate(value)}
    elif isinstance(value, Mapping):
        below = {f"{key}.{name}" if key else str(name): entry for name, entry in value.items()}
    else:
        return {key: value}
    return {k: v for name, entry in below.items() for k, v in flat(entry, name).items()}


def _quotes(text: str, error: Exception) -> str:
    """A hint where braces within a word, as shards' names have, were read as a mapping's."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    lines = text.splitlines()[mark.line : mark.line + 1] if mark else []
    if any(re.search(r"[^\s,:\[{]\{|\}[^\s,\]}]", line) for line in lines):
        return '; a text with braces needs quotes, as in "train-{000..146}.tar"'
    return ""
