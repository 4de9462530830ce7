"""Finds test images that are also training images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from pathlib import Path

from ssl_lib.data.base import ImageData, ImageDataset, image_name, warn
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.data.datasets.folder import FolderData
from ssl_lib.data.datasets.webdataset import ShardData
from ssl_lib.data.datasets.wrapped import WrappedDataset
from ssl_lib.distributed import rank

__all__ = ["shared_images", "warn_of_shared_images"]

_MOST = 100_000  # images of both sets; larger sets are compared by real path alone
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

    Files are the same if they are the same through links, or have the same content, as copies have; the contents of
    sets of more than 100,000 images are not compared. Images in shards are the same if their shard and place are, all
    images of a torch data set if it is the same object. Images of arrays are the same if their shapes and all their
    pixels are, up to 100,000 images and 4 GiB. The contents of other data sets are not compared.
    """
    if train is test or _wrapped(train) is _wrapped(test):
        return [(index, index) for index in range(len(test))]
    small = len(train) + len(test) <= _MOST
    if isinstance(train, ShardData) and isinstance(test, ShardData):
        return _common(train, test, _place)
    if isinstance(train, FolderData) and isinstance(test, FolderData):
        found = dict(_common(train, test, _place))
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


def _place(data: ImageData, index: int) -> Hashable | None:
    return data.place(index) if isinstance(data, ImageDataset) else None


def _wrapped(data: ImageData) -> object:
    """The torch data set that is wrapped, or the data set itself."""
    return data.dataset if isinstance(data, WrappedDataset) else data


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
        return content, data.page(index)
