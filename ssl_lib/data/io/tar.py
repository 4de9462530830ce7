"""Index of the images in tar files: reads only the headers and the labels."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import IO, NamedTuple, TypeAlias

import numpy as np

from ssl_lib.data.base import warn
from ssl_lib.data.io.cache import Array, alone, cache_file, read_array, write_array
from ssl_lib.data.io.formats import extensions, hint
from ssl_lib.data.io.remote import describe, is_remote, open_ranges
from ssl_lib.errors import DataError, listed
from ssl_lib.utils.files import check_regular
from ssl_lib.utils.progress_bar import progress_bar

__all__ = ["NO_LABEL", "Table", "tables_of"]

Table: TypeAlias = Array
"""One record per image: `name` as bytes, `offset` and `size` in bytes, `label` or `NO_LABEL`."""

NO_LABEL = -1
_Member: TypeAlias = tuple[str, int, int]
"""Name, offset and size."""

_CONCURRENT_SHARDS = 16  # remote shards indexed at the same time


class _File(NamedTuple):
    """A shard; for a remote shard, with the size and version from the server (see `describe`)."""

    shard: str
    size: int = 0
    version: str = ""


class _Listed(NamedTuple):
    """The images of a shard, and messages for the user, by kind."""

    table: Table
    notes: dict[str, str]


def tables_of(shards: list[str], field: str | None = None) -> list[Table]:
    """Lists the images of each shard, with a progress bar on a terminal.

    The table of a remote shard is cached in `$XDG_CACHE_HOME/ssl_lib`, if the server sends the version of the shard. If
    several processes share this folder, only one of them reads the shard.

    Args:
        shards: Paths and URLs of uncompressed tar files.
        field: The name of the images after the first dot, see `_images_of`.

    Raises:
        DataError: A shard is missing, cannot be read, or is not valid, see `_images_of`.
        ConfigError: A package for such URLs is missing.
    """
    if not any(map(is_remote, shards)):
        return _collect((_local_table(shard, field) for shard in shards), len(shards))
    with ThreadPool(_CONCURRENT_SHARDS) as threads:  # daemon threads: an error or Ctrl-C does not wait for them
        files = list(threads.imap(_described, shards))  # reports missing shards before any long read
        tables = _collect(threads.imap(partial(_table, field=field), files), len(files))
        threads.close()
        threads.join()
    return tables


def _collect(found: Iterator[_Listed], count: int) -> list[Table]:
    results = list(progress_bar(found, "shards", total=count))
    for kind in ("left out", "several"):
        notes = [result.notes[kind] for result in results if kind in result.notes]
        if notes:
            warn(notes[0] + (f" ({len(notes) - 1:,} more shards are alike)" if len(notes) > 1 else ""))
    return [result.table for result in results]


def _described(shard: str) -> _File:
    return _File(shard, *describe(shard)) if is_remote(shard) else _File(shard)


def _table(file: _File, field: str | None) -> _Listed:
    if not is_remote(file.shard):
        return _local_table(file.shard, field)
    key = (file.shard, file.version, field or "", *extensions())
    cache, noted = (cache_file(kind, *key) if file.version else None for kind in ("images", "notes"))
    with alone(cache):
        images, notes = read_array(cache), read_array(noted)
        if images is not None and notes is not None:
            return _Listed(images, json.loads(notes.tobytes()))
        with open_ranges(file.shard, file.size) as content:
            found = _images_of(content, file.shard, field)
        write_array(noted, np.frombuffer(json.dumps(found.notes).encode(), np.uint8))
        write_array(cache, found.table)
    return found


def _local_table(shard: str, field: str | None) -> _Listed:
    try:
        check_regular(shard)
        with open(shard, "rb") as content:
            return _images_of(content, shard, field)
    except OSError as error:
        raise DataError(f"{shard}: cannot be read ({error.strerror})") from error


def _images_of(file: IO[bytes], shard: str, field: str | None) -> _Listed:
    """Lists the images of an uncompressed tar file in the order of its members.

    The class index of `a.jpg` is the text in `a.cls`. As in WebDataset, members with the same name up to the first dot
    are one sample, so `a.cls` also belongs to `a.image.jpg`.

    Args:
        file: The tar file, seekable.
        shard: Name of the tar file in error messages.
        field: The name of the images after the first dot, such as "image.png"; None takes all images. If a shard has
            no such image, the end of the name is compared, so that "jpg" also fits names with dots.

    Raises:
        DataError: The file is damaged, truncated or compressed, a name occurs twice, a label is not a class index or
            belongs to several images.
        OSError: The file cannot be read.
    """
    images, labels, others = list[_Member](), dict[str, int](), list[str]()
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                stem, ending = os.path.splitext(member.name)
                is_file = member.isfile() and not member.issparse()
                if not is_file or ending.lower() not in (".cls", *extensions()):
                    others += [member.name] * (not member.isdir())
                elif ending.lower() != ".cls":
                    images.append((member.name, member.offset_data, member.size))
                elif content := archive.extractfile(member):
                    if stem in labels:
                        raise DataError(f"{shard}: {member.name} occurs twice; give each sample a name of its own")
                    labels[stem] = _label(content.read(32), f"{shard}:{member.name}")
            end = archive.offset
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile silently stops at a damaged header
            raise tarfile.ReadError(f"damaged or truncated at byte {end}")
    except tarfile.TarError as error:
        raise DataError(f"{shard}: not a complete, uncompressed tar file of images ({error})") from error
    chosen = _chosen(images, field)
    found = _with_labels(chosen, labels, shard)
    notes = _notes(chosen, labels, [*others, *(name for name, *_ in images)], shard)
    width = max((len(name) for name, *_ in found), default=1)
    types = [("name", f"S{width}"), ("offset", "i8"), ("size", "i8"), ("label", "i8")]
    return _Listed(np.array(found, types), notes)


def _chosen(images: list[_Member], field: str | None) -> list[_Member]:
    if field is None:
        return images
    kind = field.lower().removeprefix(".")
    exact = [image for image in images if _key(image[0])[1] == kind]
    return exact or [image for image in images if _key(image[0])[1].endswith(f".{kind}")]


def _notes(chosen: list[_Member], labels: dict[str, int], others: list[str], shard: str) -> dict[str, str]:
    """Describes samples without an image, and with several."""
    notes: dict[str, str] = {}
    first: dict[str, str] = {}
    pairs = [(first.setdefault(_key(name)[0], name), name) for name, *_ in chosen]
    left_out = Counter(_key(name)[1] or "no ending" for name in others if _key(name)[0] not in first)
    if left_out:
        found = listed([f"{count:,} .{kind}" for kind, count in left_out.most_common()])
        endings = {f".{kind.rpartition('.')[2]}" for kind in left_out}
        notes["left out"] = f"{shard}: left out files of samples without a readable image ({found}){hint(endings)}"
    several = [pair for pair in pairs if pair[0] != pair[1] and os.path.splitext(pair[1])[0] not in labels]
    if several:
        notes["several"] = (
            f"{shard}: {len(several):,} images are in one sample with another, such as {several[0][0]} and "
            f"{several[0][1]}, and all are used: choose one of each with data.field={_key(several[0][0])[1]}"
        )
    return notes


def _with_labels(images: list[_Member], labels: dict[str, int], shard: str) -> list[tuple[bytes, int, int, int]]:
    rows, owners = [], Counter[str]()
    for name, offset, size in images:
        stem, key = os.path.splitext(name)[0], _key(name)[0]
        owner = stem if stem in labels else key
        owners[name] += 1
        owners[f"label {owner}"] += owner in labels
        if owners[name] > 1:
            raise DataError(f"{shard}: {name} occurs twice; give each sample a name of its own")
        if owners[f"label {owner}"] > 1:
            raise DataError(
                f"{shard}: {owner}.cls belongs to several images, {name} among them: choose one of them with "
                f"data.field={_key(name)[1]}"
            )
        rows.append((os.fsencode(name), offset, size, labels.get(owner, NO_LABEL)))
    return rows


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
    if not 0 <= label < 2**63:
        raise DataError(f"{name} must contain a class index in [0, 2**63), got {label}")
    return label
