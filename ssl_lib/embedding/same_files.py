"""Finds which paths are the same file, links, or files of the same content."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ssl_lib.errors import DataError
from ssl_lib.utils.progress_bar import progress_bar

__all__ = ["SameFiles", "same_files"]

Indices = npt.NDArray[np.int64]
Key = TypeVar("Key", bound=Hashable)

_FILE, _IN_LINKED_FOLDER, _LINK = range(3)  # ranks: the first is preferred as the original


@dataclass(frozen=True, eq=False)
class SameFiles:
    """Rows of a table by the content of their files.

    Attributes:
        original: (N,), the row of the original of each row's content. A link is an original only if no file has the
            content.
        order: The originals, files before links.
        repeated: Rows that lead to a file of another row, through a linked folder: deleting one deletes the other. They
            are in no other attribute's groups.
    """

    original: Indices
    order: Indices
    repeated: Indices

    def with_copies(self, groups: Iterable[Indices]) -> list[Indices]:
        """Adds the copies of all images to groups of originals, and groups of copies alone; sorted by first row."""
        single = np.setdiff1d(np.arange(len(self.original)), self.repeated)
        copies: dict[int, list[int]] = defaultdict(list)
        for row in single[self.original[single] != single].tolist():
            copies[int(self.original[row])].append(row)
        found = [list(map(int, group)) for group in groups]
        grouped = {row for group in found for row in group}
        found += [[row] for row in copies.keys() - grouped]
        for group in found:
            group[1:] = sorted(group[1:] + [copy for row in group for copy in copies[row]])
        return [np.array(group, np.int64) for group in sorted(found)]


def same_files(root: str | Path, paths: Sequence[str], *, progress: bool = False) -> SameFiles:
    """Compares files by their place, their inode and, if the sizes are equal, a digest of their content.

    Args:
        root: Folder of the files.
        paths: Paths relative to the folder.
        progress: Whether to show a progress bar on a terminal.

    Raises:
        DataError: A file is missing or cannot be read.
    """
    folder = os.path.realpath(Path(root).expanduser())
    try:
        places, ranks = zip(*(_place(folder, path) for path in paths), strict=True)
        ordered = sorted(range(len(paths)), key=lambda row: (ranks[row], row))
        first: dict[Hashable, int] = {}  # of each place
        for row in ordered:
            first.setdefault(places[row], row)
        single = [row for row in ordered if first[places[row]] == row]
        contents = _contents({row: os.path.join(folder, paths[row]) for row in single}, progress)
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be read ({error.strerror}); name the folder of the table's images with --images"
        ) from error
    leaders: dict[Hashable, int] = {}
    for row in single:
        leaders.setdefault(contents[row], row)
    original = np.arange(len(paths))
    for row in single:
        original[row] = leaders[contents[row]]
    repeated = sorted(set(range(len(paths))).difference(single))
    return SameFiles(original, np.array(list(leaders.values()), np.int64), np.array(repeated, np.int64))


def _place(folder: str, path: str) -> tuple[tuple[str, str], int]:
    """The entry of a path in its real folder, and its rank."""
    given, name = os.path.split(os.path.normpath(os.path.join(folder, path)))
    real = os.path.realpath(given)
    if os.path.islink(os.path.join(real, name)):
        return (real, name), _LINK
    return (real, name), _FILE if real == given else _IN_LINKED_FOLDER


def _contents(files: dict[int, str], progress: bool) -> dict[int, Hashable]:
    """A key for the content of each file: equal keys mean equal bytes. Only files of equal size are read."""
    found = {row: os.stat(path) for row, path in files.items()}
    inodes = {row: (stat.st_dev, stat.st_ino) for row, stat in found.items()}
    readers = {inode: row for row, inode in reversed(inodes.items())}  # the first row of each inode
    sizes = _by_key({row: found[row].st_size for row in readers.values()})
    digests: dict[int, Hashable] = {}
    alike = [row for rows in sizes.values() if len(rows) > 1 for row in rows]
    for row in progress_bar(alike, "exact copies", unit="file", show=progress):
        digests[row] = _digest(files[row])
    return {row: digests.get(readers[inode], inode) for row, inode in inodes.items()}


def _digest(path: str) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.digest()


def _by_key(keys: dict[int, Key]) -> dict[Key, list[int]]:
    rows: dict[Key, list[int]] = defaultdict(list)
    for row, key in keys.items():
        rows[key].append(row)
    return rows
