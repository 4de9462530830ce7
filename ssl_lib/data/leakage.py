"""Finds test images that are also training images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable
from pathlib import Path

from ssl_lib.data.base import ImageData, image_name, warn
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.data.datasets.folder import FolderData
from ssl_lib.data.tiles import page_of
from ssl_lib.distributed import rank

__all__ = ["shared_images", "warn_of_shared_images"]

_MOST = 100_000  # images of both sets; larger sets are compared by path alone
_MOST_BYTES = 2**32


def warn_of_shared_images(train: ImageData, test: ImageData) -> None:
    """Warns in the first process if test images are training images; see `shared_images`."""
    if rank():
        return
    if pairs := shared_images(train, test):
        one, other = image_name(test, pairs[0][0]), image_name(train, pairs[0][1])
        warn(
            f"{len(pairs):,} of {len(test):,} test images are also training images, such as {one} and {other}: "
            "accuracies on them say nothing about new images"
        )


def shared_images(train: ImageData, test: ImageData) -> list[tuple[int, int]]:
    """Returns the positions of test images that are training images, each with the position of one training image.

    Files are the same if they have the same path or the same content, as copies and links have. Images of arrays are
    the same if their shapes and all their pixels are. The contents of more than 100,000 images or 4 GiB of arrays, and
    of other kinds of data sets, are not compared.
    """
    if train is test:
        return [(index, index) for index in range(len(test))]
    small = len(train) + len(test) <= _MOST
    if isinstance(train, FolderData) and isinstance(test, FolderData):
        found = dict(_common(train, test, _path))
        if small and len(found) < len(test):
            found = {**dict(_common(train, test, _Digests(train, test))), **found}
        return sorted(found.items())
    if isinstance(train, ArrayData) and isinstance(test, ArrayData):
        small = small and _bytes(train) + _bytes(test) <= _MOST_BYTES
        alike = train.read(0).shape == test.read(0).shape and train.read(0).dtype == test.read(0).dtype
        return _common(train, test, _pixels) if small and alike else []
    return []


def _bytes(data: ArrayData) -> int:
    return len(data) * data.read(0).nbytes


def _pixels(data: ImageData, index: int) -> Hashable:
    return hashlib.sha256(data.read(index).numpy().tobytes()).digest()


def _common(
    train: ImageData, test: ImageData, key: Callable[[ImageData, int], Hashable | None]
) -> list[tuple[int, int]]:
    """Pairs of test and training images of the same key; of training images with the same key, the first."""
    places = {found: index for index in reversed(range(len(train))) if (found := key(train, index)) is not None}
    keys = ((index, key(test, index)) for index in range(len(test)))
    return [(index, places[found]) for index, found in keys if found in places]


def _path(data: ImageData, index: int) -> Hashable:
    assert isinstance(data, FolderData)
    return os.path.join(os.path.realpath(data.root), data.name(index))


class _Digests:
    """The key of a file: its content, if a file of the other set has the same size; None for all other files."""

    def __init__(self, *sets: FolderData) -> None:
        sizes = [{data.file_size(index) for index in range(len(data))} for data in sets]
        self._shared = sizes[0] & sizes[1]

    def __call__(self, data: ImageData, index: int) -> Hashable | None:
        assert isinstance(data, FolderData)
        if data.file_size(index) not in self._shared:
            return None
        try:
            content = hashlib.sha256(Path(data.path(index)).read_bytes()).digest()
        except OSError:  # reported when the image is read
            return None
        return content, page_of(data, index)
