"""Lists of shards: braces and glob patterns in paths and URLs."""

from __future__ import annotations

import glob
import itertools
import os
import re

from ssl_lib.data.io.remote import is_remote
from ssl_lib.errors import DataError

__all__ = ["expand"]


def expand(urls: list[str]) -> list[str]:
    """Expands braces and glob patterns to a list of shards."""
    shards = [shard for text in urls for url in _expand_braces(text) for shard in _expand_glob(url)]
    if not shards:
        raise DataError("urls is empty: set it to at least one shard")
    return shards


def _expand_braces(text: str) -> list[str]:
    """Expands `a-{00..02}.tar` and `{a,b}.tar` to lists."""
    parts = re.split(r"\{([^{}]*)\}", text)  # alternates between plain text and the content of braces
    choices = []
    for position, part in enumerate(parts):
        span = re.fullmatch(r"(\d+)\.\.(\d+)", part) if position % 2 else None
        if span:
            numbers = range(int(span[1]), int(span[2]) + 1)
            choices.append([str(number).zfill(len(span[1])) for number in numbers])
        else:
            choices.append(part.split(",") if position % 2 else [part])
    return ["".join(combination) for combination in itertools.product(*choices)]


def _expand_glob(url: str) -> list[str]:
    """Expands a path, which may be a glob pattern, to sorted files. A URL is returned unchanged."""
    if is_remote(url):
        return [url]
    path = os.path.expanduser(url)
    files = [path] if os.path.isfile(path) else sorted(filter(os.path.isfile, glob.glob(path)))
    if not files:
        raise DataError(f"{os.path.abspath(path)}: no such shard")
    return files
