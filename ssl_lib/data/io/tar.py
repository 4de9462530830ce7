"""Index of the images in tar files: reads only the headers, and the files of the labels."""

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
from ssl_lib.data.io.shard_labels import NO_LABEL, LabelFiles
from ssl_lib.data.io.shard_names import sample_and_field, suggested_field
from ssl_lib.errors import DataError, listed
from ssl_lib.utils.files import check_regular
from ssl_lib.utils.progress_bar import progress_bar

__all__ = ["Table", "tables_of"]

Table: TypeAlias = Array
"""One record per image: `name` as bytes, `offset` and `size` in bytes, `label` as text, or `NO_LABEL`."""

_Member: TypeAlias = tuple[str, int, int]
"""Name, offset and size."""

_CONCURRENT_SHARDS = 16  # remote shards indexed at the same time
_CACHE = "shards"  # another name whenever the format of the cached tables changes


class _File(NamedTuple):
    """A shard; for a remote shard, with the size and version from the server (see `describe`)."""

    shard: str
    size: int = 0
    version: str = ""


class _Listed(NamedTuple):
    """The images of a shard, and messages for the user, by kind."""

    table: Table
    notes: dict[str, str]


def tables_of(shards: list[str], field: str | None = None, label: str | None = None) -> list[Table]:
    """Lists the images of each shard, with a progress bar on a terminal.

    The table of a remote shard is cached in `$XDG_CACHE_HOME/ssl_lib`, if the server sends the version of the shard. If
    several processes share this folder, only one of them reads the shard.

    Args:
        shards: Paths and URLs of uncompressed tar files.
        field: The name of the images after the first dot, see `_images_of`.
        label: The files with the classes, see `LabelFiles`.

    Raises:
        DataError: A shard is missing, cannot be read, or is not valid, see `_images_of`.
        ConfigError: A package for such URLs is missing.
    """
    if not any(map(is_remote, shards)):
        return _collect((_local_table(shard, field, label) for shard in shards), len(shards))
    with ThreadPool(_CONCURRENT_SHARDS) as threads:  # daemon threads: an error or Ctrl-C does not wait for them
        files = list(threads.imap(_described, shards))  # reports missing shards before any long read
        tables = _collect(threads.imap(partial(_table, field=field, label=label), files), len(files))
        threads.close()
        threads.join()
    return tables


def _collect(found: Iterator[_Listed], count: int) -> list[Table]:
    results = list(progress_bar(found, "shards", total=count))
    for kind in ("left out", "several", "no labels"):
        notes = [result.notes[kind] for result in results if kind in result.notes]
        if notes:
            warn(notes[0] + (f" ({len(notes) - 1:,} more shards are alike)" if len(notes) > 1 else ""))
    return [result.table for result in results]


def _described(shard: str) -> _File:
    return _File(shard, *describe(shard)) if is_remote(shard) else _File(shard)


def _table(file: _File, field: str | None, label: str | None) -> _Listed:
    if not is_remote(file.shard):
        return _local_table(file.shard, field, label)
    key = (file.shard, file.version, field or "", label or "", *extensions())
    cache, noted = (cache_file(kind, *key) if file.version else None for kind in (_CACHE, f"{_CACHE}-notes"))
    with alone(cache):
        images, notes = read_array(cache), read_array(noted)
        if images is not None and notes is not None:
            return _Listed(images, json.loads(notes.tobytes()))
        with open_ranges(file.shard, file.size) as content:
            found = _images_of(content, file.shard, field, label)
        write_array(noted, np.frombuffer(json.dumps(found.notes).encode(), np.uint8))
        write_array(cache, found.table)
    return found


def _local_table(shard: str, field: str | None, label: str | None) -> _Listed:
    try:
        check_regular(shard)
        with open(shard, "rb") as content:
            return _images_of(content, shard, field, label)
    except OSError as error:
        raise DataError(f"{shard}: cannot be read ({error.strerror})") from error


def _images_of(file: IO[bytes], shard: str, field: str | None, label: str | None) -> _Listed:
    """Lists the images of an uncompressed tar file in the order of its members.

    As in WebDataset, members with the same name up to the first dot are one sample; see `LabelFiles` for its class.

    Args:
        file: The tar file, seekable.
        shard: Name of the tar file in error messages.
        field: The name of the images after the first dot, such as "image.png"; None takes all images. If a shard has
            no such image, the end of the name is compared, so that "jpg" also fits names with dots.
        label: The files with the classes, see `LabelFiles`.

    Raises:
        DataError: The file is damaged, truncated or compressed, a name occurs twice, a label is not a class or belongs
            to several images, or there are several kinds of labels.
        OSError: The file cannot be read.
    """
    images, others, labels = list[_Member](), list[str](), LabelFiles(shard, label)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                is_file = member.isfile() and not member.issparse()
                if is_file and member.name.lower().endswith(extensions()):
                    images.append((member.name, member.offset_data, member.size))
                    continue
                if is_file and labels.needs(member.name) and (content := archive.extractfile(member)):
                    labels.add(member.name, content)
                if not member.isdir():
                    others.append(member.name)
            end = archive.offset
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile silently stops at a damaged header
            raise tarfile.ReadError(f"damaged or truncated at byte {end}")
    except tarfile.TarError as error:
        raise DataError(f"{shard}: not a complete, uncompressed tar file of images ({error})") from error
    chosen = _chosen(images, field)
    names = [name for name, *_ in chosen]
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise DataError(f"{shard}: {twice} occurs twice; give each sample a name of its own")
    classes, note = labels.of(names, others)
    notes = _notes(names, bool(classes), [*others, *(name for name, *_ in images)], shard)
    return _Listed(_table_with(chosen, classes), notes | ({"no labels": note} if note else {}))


def _table_with(images: list[_Member], classes: dict[str, bytes]) -> Table:
    rows = [(os.fsencode(name), offset, size, classes.get(name, NO_LABEL)) for name, offset, size in images]
    width = max((len(name) for name, *_ in rows), default=1)
    label_width = max(map(len, classes.values()), default=0) or 1
    return np.array(rows, [("name", f"S{width}"), ("offset", "i8"), ("size", "i8"), ("label", f"S{label_width}")])


def _chosen(images: list[_Member], field: str | None) -> list[_Member]:
    if field is None:
        return images
    kind = field.lower().removeprefix(".")
    exact = [image for image in images if sample_and_field(image[0])[1] == kind]
    return exact or [image for image in images if sample_and_field(image[0])[1].endswith(f".{kind}")]


def _notes(names: list[str], labeled: bool, others: list[str], shard: str) -> dict[str, str]:
    """Describes samples without an image, and with several; images with a label of their own are not one sample."""
    notes: dict[str, str] = {}
    fields: dict[str, list[str]] = {}
    for sample, field in map(sample_and_field, names):
        fields.setdefault(sample, []).append(field)
    files = (sample_and_field(name) for name in others if not name.lower().endswith(".cls"))
    left_out = Counter(field or "no ending" for sample, field in files if sample not in fields)
    if left_out:
        kinds = listed([f"{count:,} .{kind}" for kind, count in left_out.most_common()])
        endings = {f".{kind.rpartition('.')[2]}" for kind in left_out}
        notes["left out"] = f"{shard}: left out files of samples without a readable image ({kinds}){hint(endings)}"
    several = {sample: each for sample, each in fields.items() if len(each) > 1}
    if several and not labeled:
        sample, found = next(iter(several.items()))
        count = sum(len(each) - 1 for each in several.values())
        notes["several"] = (
            f"{shard}: {count:,} images are in one sample with another, such as {sample}.{found[0]} and "
            f"{sample}.{found[1]}, and all are used: choose one of each with data.field={suggested_field(found)}"
        )
    return notes
