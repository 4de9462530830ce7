"""Cached listing of the image files under a folder; unchanged folders are not listed again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from ssl_lib.data.io.cache import cache_file, read_array, write_array
from ssl_lib.errors import DataError

__all__ = ["EXTENSIONS", "list_images"]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

_CACHED_FROM = 10_000  # entries; smaller trees are listed in milliseconds
_SETTLED_AFTER = 2_000_000_000  # ns; the coarsest time stamps (FAT) have a resolution of two seconds

Stamp: TypeAlias = tuple[int, int, int, int]
_UNSETTLED: Stamp = (0, 0, 0, 0)


class _Folder(NamedTuple):
    """The contents of a folder at the time of a stamp: device, inode, modification and change time in nanoseconds.

    The entries are sorted by name. They are image files, and subfolders with a trailing "/".
    """

    stamp: Stamp
    entries: list[str]


def list_images(root: str) -> list[tuple[str, list[str]]]:
    """Lists the image files under a folder, sorted by the parts of their paths.

    Names that start with a dot are ignored. Links are followed. The list of a large tree is cached in
    `$XDG_CACHE_HOME/ssl_lib` (default: ~/.cache/ssl_lib), if this folder is writable. A folder is listed again when its
    time stamps show that an entry was added, removed or renamed, so the list is never out of date.

    Args:
        root: The folder.

    Returns:
        Folders relative to `root`, as "" or "a/b/", each with names of images in it. A folder appears more than once if
        the names of its subfolders sort between the names of its images.

    Raises:
        DataError: A folder cannot be listed, or is a link to a folder above it.
    """
    cache = cache_file("index", os.path.realpath(root), *EXTENSIONS)
    known = _load(cache)
    found: dict[str, _Folder] = {}
    images = list(_walk(root, "", (), known, found))
    if found != known and sum(len(folder.entries) for folder in found.values()) >= _CACHED_FROM:
        _save(cache, found)
    return images


def _walk(
    root: str, relative: str, above: tuple[tuple[int, ...], ...], known: dict[str, _Folder], found: dict[str, _Folder]
) -> Iterator[tuple[str, list[str]]]:
    path = os.path.join(root, relative)
    try:
        stamp = _stamp(path)
        folder = known.get(relative)
        if folder is None or folder.stamp != stamp:
            folder = _scan(path, stamp)
    except OSError as error:
        raise DataError(f"{path}: cannot be listed ({error.strerror})") from error
    if stamp[:2] in above:
        raise DataError(f"{path} is a link to a folder above it; remove the link")
    found[relative] = folder
    for is_folder, names in groupby(folder.entries, key=lambda entry: entry.endswith("/")):
        if not is_folder:
            yield relative, list(names)
            continue
        for name in names:
            yield from _walk(root, relative + name, (*above, stamp[:2]), known, found)


def _stamp(path: str) -> Stamp:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _scan(path: str, stamp: Stamp) -> _Folder:
    """Lists a folder whose current stamp is given.

    The stamp does not reveal all later changes if it is younger than the clock resolution of the file system, or if the
    folder contains a link whose target may change. Such folders are marked and are listed again the next time.
    """
    trusted = max(stamp[2:]) < time.time_ns() - _SETTLED_AFTER
    images, folders = [], set[str]()
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            is_image = entry.name.lower().endswith(EXTENSIONS)
            is_folder = entry.is_dir()
            if is_folder:
                folders.add(entry.name)
            elif is_image:
                images.append(entry.name)
            if entry.is_symlink() and (is_folder or not is_image):
                trusted = False
    names = sorted([*images, *folders])
    return _Folder(stamp if trusted else _UNSETTLED, [f"{name}/" if name in folders else name for name in names])


def _load(cache: Path | None) -> dict[str, _Folder]:
    """Reads the folders in a cache file, by relative path; empty if the file does not exist or is damaged."""
    text = read_array(cache)
    if text is None:
        return {}
    folders = {}
    try:
        for block in os.fsdecode(text.tobytes()).split("\0\0"):
            head, *entries = block.split("\0")
            device, inode, modified, changed, relative = head.split(" ", 4)
            folders[relative] = _Folder((int(device), int(inode), int(modified), int(changed)), entries)
    except ValueError:
        return {}
    return folders


def _save(cache: Path | None, folders: dict[str, _Folder]) -> None:
    blocks = (
        "\0".join((f"{' '.join(map(str, stamp))} {relative}", *names)) for relative, (stamp, names) in folders.items()
    )
    write_array(cache, np.frombuffer(os.fsencode("\0\0".join(blocks)), np.uint8))
