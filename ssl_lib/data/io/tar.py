"""Index of the images in tar files: reads only the headers and the labels."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from typing import IO, NamedTuple, TypeAlias

import numpy as np
from tqdm import tqdm

from ssl_lib.data.io.cache import Array, alone, cache_file, read_array, write_array
from ssl_lib.data.io.index import EXTENSIONS
from ssl_lib.data.io.remote import describe, is_remote, open_ranges
from ssl_lib.errors import DataError
from ssl_lib.utils.files import check_regular

__all__ = ["NO_LABEL", "Table", "images_of", "tables_of"]

Table: TypeAlias = Array
"""One record per image: `name` as bytes, `offset` and `size` in bytes, `label` or `NO_LABEL`."""

NO_LABEL = -1
_CONCURRENT_SHARDS = 16  # remote shards indexed at the same time


class _File(NamedTuple):
    """A shard; for a remote shard, with the size and version from the server (see `describe`)."""

    shard: str
    size: int = 0
    version: str = ""


def tables_of(shards: list[str]) -> list[Table]:
    """Lists the images of each shard, with a progress bar on a terminal.

    The table of a remote shard is cached in `$XDG_CACHE_HOME/ssl_lib`, if the server sends the version of the shard. If
    several processes share this folder, only one of them reads the shard.

    Args:
        shards: Paths and URLs of uncompressed tar files.

    Raises:
        DataError: A shard is missing, cannot be read, or is not valid for `images_of`.
        ConfigError: A package for such URLs is missing.
    """
    if not any(map(is_remote, shards)):
        return _collect(map(_local_table, shards), len(shards))
    with ThreadPool(_CONCURRENT_SHARDS) as threads:  # daemon threads: an error or Ctrl-C does not wait for them
        files = list(threads.imap(_described, shards))  # reports missing shards before any long read
        tables = _collect(threads.imap(_table, files), len(files))
        threads.close()
        threads.join()
    return tables


def _collect(tables: Iterator[Table], count: int) -> list[Table]:
    return list(tqdm(tables, "shards", count, leave=False, disable=None))


def _described(shard: str) -> _File:
    return _File(shard, *describe(shard)) if is_remote(shard) else _File(shard)


def _table(file: _File) -> Table:
    if not is_remote(file.shard):
        return _local_table(file.shard)
    cache = cache_file("shard", file.shard, file.version, *EXTENSIONS) if file.version else None
    with alone(cache):
        images = read_array(cache)
        if images is None:
            with open_ranges(file.shard, file.size) as content:
                images = images_of(content, file.shard)
            write_array(cache, images)
    return images


def _local_table(shard: str) -> Table:
    try:
        check_regular(shard)
        with open(shard, "rb") as content:
            return images_of(content, shard)
    except OSError as error:
        raise DataError(f"{shard}: cannot be read ({error.strerror})") from error


def images_of(file: IO[bytes], shard: str) -> Table:
    """Lists the images of an uncompressed tar file in the order of its members.

    As in WebDataset, members with the same name up to the first dot belong together: `0001.jpg` is the image and
    `0001.cls` its class index as text.

    Args:
        file: The tar file, seekable.
        shard: Name of the tar file in error messages.

    Raises:
        DataError: The file is damaged, truncated or compressed, or a label is not a class index.
        OSError: The file cannot be read.
    """
    images, labels = [], dict[str, int]()
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                key, kind = _key(member.name)
                if not member.isfile() or member.issparse():  # skips links and other special members, and sparse files
                    continue
                if f".{kind}" in EXTENSIONS:
                    images.append((key, member.name, member.offset_data, member.size))
                elif kind == "cls" and (content := archive.extractfile(member)):
                    labels[key] = _label(content.read(32), f"{shard}:{member.name}")
            end = archive.offset
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile silently stops at a damaged header
            raise tarfile.ReadError(f"damaged or truncated at byte {end}")
    except tarfile.TarError as error:
        raise DataError(f"{shard}: not a complete, uncompressed tar file of images ({error})") from error
    rows = [(os.fsencode(name), offset, size, labels.get(key, NO_LABEL)) for key, name, offset, size in images]
    width = max((len(name) for name, *_ in rows), default=1)
    return np.array(rows, [("name", f"S{width}"), ("offset", "i8"), ("size", "i8"), ("label", "i8")])


def _key(name: str) -> tuple[str, str]:
    """Splits the name of a member at the first dot of its last part: "a/b.c.JPG" gives ("a/b", "c.jpg")."""
    folder, slash, last = name.rpartition("/")
    stem, _, kind = last.partition(".")
    return folder + slash + stem, kind.lower()


def _label(content: bytes, name: str) -> int:
    try:
        label = int(content)
    except ValueError as error:
        raise DataError(f"{name} must contain a class index, got {content!r}") from error
    if not 0 <= label < 2**31:
        raise DataError(f"{name} must contain a class index of 0 or more, got {label}")
    return label
