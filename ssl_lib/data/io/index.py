"""Cached listing of the image files under a folder; unchanged folders are not listed again."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from ssl_lib.data.io.cache import cache_file, read_array, write_array
from ssl_lib.data.io.formats import ending, extensions
from ssl_lib.data.io.patterns import excluded
from ssl_lib.errors import DataError
from ssl_lib.runs.files import CHECKPOINTS, CONFIG_FILE

__all__ = ["Listing", "list_images"]

_CACHED_FROM = 10_000  # entries; smaller trees are listed in milliseconds
_SETTLED_AFTER = 2_000_000_000  # ns; the coarsest time stamps (FAT) have a resolution of two seconds

_RUN = {CONFIG_FILE, f"{CHECKPOINTS}/"}  # the entries of a run's folder

Stamp: TypeAlias = tuple[int, int, int, int]
Place: TypeAlias = tuple[int, ...]
_UNSETTLED: Stamp = (0, 0, 0, 0)


class _Folder(NamedTuple):
    """The contents of a folder at the time of a stamp: device, inode, modification and change time in nanoseconds.

    The entries are sorted by name. They are files, and subfolders with a trailing "/". Images that are links have a
    leading "/".
    """

    stamp: Stamp
    entries: list[str]


@dataclass
class Listing:
    """The image files under a folder.

    Attributes:
        images: Folders relative to the root, as "" or "a/b/", each with names of images in it. A folder appears more
            than once if the names of its subfolders sort between the names of its images.
        left_out: The number of other files by ending, for each subfolder of the root ("" for the root itself).
        links: The paths of images that are links, relative to the root.
        folders: The device and inode of each folder; two folders with the same ones are one, reached through a link.
    """

    images: list[tuple[str, list[str]]] = field(default_factory=list)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    folders: dict[str, Place] = field(default_factory=dict)

    @property
    def paths(self) -> Iterator[str]:
        """The path of each image relative to the root."""
        return (folder + name for folder, names in self.images for name in names)

    @property
    def subfolders(self) -> list[str]:
        """The subfolders of the root, with or without images."""
        return [name for name in self.left_out if name]

    @property
    def with_images(self) -> list[str]:
        """The subfolders of the root that contain images at any depth; "" stands for images in the root itself."""
        return list(dict.fromkeys(folder.partition("/")[0] for folder, _ in self.images))


def list_images(root: str, exclude: Sequence[str] = ()) -> Listing:
    """Lists the image files under a folder, sorted by the parts of their paths.

    Names that start with a dot, and the folders of runs, are ignored. Links are followed. The list of a large tree is
    cached in `$XDG_CACHE_HOME/ssl_lib` (default: ~/.cache/ssl_lib), if this folder is writable. A folder is listed
    again when its time stamps show that an entry was added, removed or renamed, so the list is never out of date.

    Args:
        root: The folder.
        exclude: Files and folders to leave out, see `excluded`.

    Raises:
        DataError: A folder cannot be listed, or is a link to a folder above it.
    """
    cache = cache_file("entries", os.path.realpath(root))
    known = _load(cache)
    found = dict(known) if exclude else {}  # excluded folders stay in the cache
    listing = Listing()
    for relative, place, entries in _walk(root, "", (), known, found, exclude):
        listing.folders[relative] = place
        names = [entry.removeprefix("/") for entry in entries]
        listing.links.extend(relative + entry[1:] for entry in entries if entry[0] == "/")
        top = relative.partition("/")[0]
        images = [name for name in names if _is_image(name)]
        left_out = listing.left_out.setdefault(top, Counter())
        if len(images) < len(names):
            left_out.update(ending(name) for name in names if not _is_image(name))
        if images:
            listing.images.append((relative, images))
    if found != known and sum(len(folder.entries) for folder in found.values()) >= _CACHED_FROM:
        _save(cache, found)
    return listing


def _is_image(name: str) -> bool:
    return name.lower().endswith(extensions())


def _walk(
    root: str,
    relative: str,
    above: tuple[Place, ...],
    known: dict[str, _Folder],
    found: dict[str, _Folder],
    exclude: Sequence[str],
) -> Iterator[tuple[str, Place, list[str]]]:
    """Yields each folder, its device and inode, and entries of it that are files, at least once per folder."""
    path = os.path.join(root, relative)
    try:
        stamp = _stamp(path)
        folder = known.get(relative)
        if folder is None or folder.stamp != stamp:
            folder = _scan(path, stamp)
    except OSError as error:
        raise DataError(f"{path}: cannot be listed ({error.strerror})") from error
    if stamp[:2] in above:
        raise DataError(
            f"{_last_link(path)} is a link to a folder above it: remove the link, or leave it out with data.exclude"
        )
    found[relative] = folder
    if not _RUN.isdisjoint(folder.entries) and set(folder.entries) >= _RUN:
        return
    yield relative, stamp[:2], []
    entries = folder.entries
    if exclude:
        entries = [entry for entry in entries if not excluded(relative + entry.strip("/"), exclude)]
    for is_folder, names in groupby(entries, key=lambda entry: entry.endswith("/")):
        if not is_folder:
            yield relative, stamp[:2], list(names)
            continue
        for name in names:
            yield from _walk(root, relative + name, (*above, stamp[:2]), known, found, exclude)


def _last_link(path: str) -> str:
    """Returns the deepest part of a path that is a link, or the path itself."""
    parts = [Path(path), *Path(path).parents]
    return str(next((part for part in parts if part.is_symlink()), parts[0]))


def _stamp(path: str) -> Stamp:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _scan(path: str, stamp: Stamp) -> _Folder:
    """Lists a folder whose current stamp is given.

    The stamp does not reveal all later changes if it is younger than the clock resolution of the file system, or if the
    folder contains a link whose target may change. Such folders are marked and are listed again the next time.
    """
    trusted = max(stamp[2:]) < time.time_ns() - _SETTLED_AFTER
    found = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            is_folder, is_link = entry.is_dir(), entry.is_symlink()
            is_image = not is_folder and _is_image(entry.name)
            found.append((entry.name, f"{'/' * (is_link and is_image)}{entry.name}{'/' * is_folder}"))
            if is_link and not is_image:
                trusted = False
    names = [marked for _, marked in sorted(found)]
    return _Folder(stamp if trusted else _UNSETTLED, names)


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
