"""Reads and writes YAML as plain values, by the core schema of YAML 1.2 (yaml.org/spec/1.2.2, section 10.3)."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

from ssl_lib.errors import ConfigError

__all__ = ["brief", "dump_yaml", "flat", "parse_yaml"]

_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
"""Patterns of the core schema by tag, and the characters that they start with; any other plain scalar is text."""


class _Loader(yaml.SafeLoader):
    """Builds plain values only; refuses aliases, other tags, a key given twice, and numbers beyond float."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise _error("aliases (*name) are not supported: write the value again", self.current_event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise _error("a mapping is expected here", node.start_mark)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _error(f"a key must be a single value, got {brief(key)}", key_node.start_mark)
            if key in seen:
                raise _error(f"key {brief(key)} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise _error("a single value is expected here", node.start_mark)
        return str(node.value)

    def construct_core_scalar(self, node: yaml.Node) -> Any:
        """A value of the type that its tag names, explicitly or by the core schema."""
        kind = node.tag.removeprefix(_TAG)
        text = self.construct_scalar(node)
        if not re.fullmatch(_SCALARS[kind][0], text):
            raise _error(f"{brief(text)} is not of type {kind}", node.start_mark)
        value = {"null": lambda _: None, "bool": lambda t: t[0] in "tT", "int": _integer, "float": _float}[kind](text)
        if value in (math.inf, -math.inf) and not text.lower().endswith("inf"):
            raise _error(f"the number {brief(text)} is too large", node.start_mark)
        return value

    def refuse_tag(self, node: yaml.Node) -> Any:
        """Any other tag."""
        raise _error(f"the tag {brief(node.tag)} is not supported: write a plain value", node.start_mark)


def _integer(text: str) -> int | float:
    """The integer; infinity if it is beyond float."""
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    value = int(text[2:] if base != 10 else text, base) if len(text) <= 400 else math.inf
    return value if abs(value) <= sys.float_info.max else math.inf


def _float(text: str) -> float:
    return float(text.replace(".", "") if text.lower().endswith(("inf", "nan")) else text)


def _error(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.Node:
        """In double quotes if a line break of Unicode is in it: PyYAML loses those in single quotes."""
        style = '"' if re.search("[\x85\u2028\u2029]", text) else None
        return self.represent_scalar(f"{_TAG}str", text, style)


_Dumper.add_representer(str, _Dumper.represent_text)
_Loader.yaml_implicit_resolvers = {}
_Loader.add_constructor(None, _Loader.refuse_tag)
for _kind, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _starts = [*_first, ""] if _kind == "null" else list(_first)
        _class.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), _starts)
    _Loader.add_constructor(_TAG + _kind, _Loader.construct_core_scalar)
for _kind in ("timestamp", "binary", "omap", "pairs", "set"):  # of YAML 1.1
    _Loader.add_constructor(_TAG + _kind, _Loader.refuse_tag)


def parse_yaml(text: str, source: str) -> Any:
    """Parses YAML into plain values.

    Raises:
        ConfigError: The text is not YAML, uses aliases or tags, gives a key twice, or holds a number beyond float; the
            message names `source`.
    """
    try:
        return yaml.load(text, _Loader)  # a subclass of SafeLoader: builds plain values only
    except RecursionError as error:
        raise ConfigError(f"{source} is nested too deeply") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        reason = re.sub(r"\S{201,}", lambda word: f"{word[0][:197]}...", str(error))
        reason = reason.replace('"<unicode string>"', source)
        raise ConfigError(f"{source} is not readable YAML: {reason}{_hint(text, error)}") from error


def dump_yaml(value: Any) -> str:
    """Formats plain values as YAML that `parse_yaml` reads equally; keys keep their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Flattens a nested mapping, by keys such as `method.temperature`; lists of mappings by index: `views[0].size`."""
    if isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
        below = {f"{key}[{index}]": entry for index, entry in enumerate(value)}
    elif isinstance(value, Mapping):
        below = {f"{key}.{name}" if key else str(name): entry for name, entry in value.items()}
    else:
        return {key: value}
    return {k: v for name, entry in below.items() for k, v in flat(entry, name).items()}


def brief(value: Any) -> str:
    """The value as Python writes it, cut at 200 characters, for messages."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _hint(text: str, error: Exception) -> str:
    """A hint for braces inside a text, such as the names of shards, which YAML reads as a mapping."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    lines = text.splitlines()[mark.line : mark.line + 1] if mark else []
    if any(re.search(r"[^\s,:\[{]\{|\}[^\s,\]}]", line) for line in lines):
        return '; a text with braces needs quotes, as in "train-{000..146}.tar"'
    return ""
