"""Glob patterns of files and folders to leave out."""

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase, translate
from pathlib import Path

__all__ = ["excluded", "pattern_list", "patterns_in"]


def excluded(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path relative to the root matches a glob pattern.

    A pattern without "/" matches the name of a file or folder at any depth, such as "*.gif" and "thumbs". A pattern
    with "/" matches the path from the root, such as "2019/raw"; after "**/" it matches at any depth.
    """
    return bool(patterns) and _expression(tuple(patterns)).match(path) is not None


def patterns_in(root: str, patterns: Sequence[str] | str) -> tuple[str, ...]:
    """Returns the patterns relative to the root: an absolute path in it becomes a path from the root.

    Absolute paths of existing places outside of the root are left out; "/raw" is a path from the root.
    """
    known = [Path(folder).parts for folder in (os.path.realpath(root), os.path.abspath(root))]
    relative = []
    for pattern in (patterns,) if isinstance(patterns, str) else map(str, patterns):
        parts = Path(pattern).parts if os.path.isabs(pattern) else ()
        rest = next((parts[len(folder) :] for folder in known if _is_below(parts, folder)), None)
        if rest:
            relative.append("/" + "/".join(rest))
        elif not (parts and os.path.lexists(_unescaped(pattern))):
            relative.append(pattern)
    return tuple(relative)


def pattern_list(names: Iterable[str]) -> str:
    """Returns names as a list of patterns for the command line, such as [hat] or ['a [[]1]']."""
    escaped = map(glob.escape, names)
    return f"[{', '.join(text if text.isalnum() else repr(text) for text in escaped)}]"


def _is_below(pattern: tuple[str, ...], folder: tuple[str, ...]) -> bool:
    parts = zip(folder, pattern, strict=False)
    return len(pattern) > len(folder) and all(fnmatchcase(name, part) for name, part in parts)


def _unescaped(pattern: str) -> str:
    """Undoes `glob.escape`."""
    return re.sub(r"\[([*?[])\]", r"\1", pattern)


@functools.cache
def _expression(patterns: tuple[str, ...]) -> re.Pattern[str]:
    parts = []
    for pattern in patterns:
        inner = pattern.rstrip("/").removeprefix("**/")
        from_root = "/" in inner and not pattern.startswith("**/")
        parts.append(("" if from_root else "(?s:.*/)?") + translate(inner.removeprefix("/")))
    return re.compile("|".join(parts))
