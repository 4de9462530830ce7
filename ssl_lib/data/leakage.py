"""Finds test images that are also training images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable

from ssl_lib.data.base import ImageData, ImageDataset, image_name, warn
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.data.datasets.folder import FolderData
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

    Images are the same if they are stored in the same place, also through links, or if their files have the same
    content, as copies have: files in folders, in local shards, and those of torch and Hugging Face data sets that have
    the files or their paths. Images of arrays are the same if their shapes and all their pixels are, up to 4 GiB. The
    contents of sets of more than 100,000 images are not compared.
    """
    if train is test or _wrapped(train) is _wrapped(test):
        return [(index, index) for index in range(len(test))]
    if isinstance(train, ArrayData) and isinstance(test, ArrayData):
        small = len(train) + len(test) <= _MOST and _bytes(train) + _bytes(test) <= _MOST_BYTES
        alike = train.read(0).shape == test.read(0).shape and train.read(0).dtype == test.read(0).dtype
        return _common(train, test, _pixels) if small and alike else []
    found = dict(_common(train, test, _place))
    if len(train) + len(test) <= _MOST and len(found) < len(test):
        found = {**dict(_common(train, test, _Digests(train, test))), **found}
    return sorted(found.items())


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
    """The key of a file: its content, if a file of the other set has the same size; None for all other images."""

    def __init__(self, *sets: ImageData) -> None:
        sizes = [{_size(data, index) for index in range(len(data))} for data in sets]
        self._shared = (sizes[0] & sizes[1]) - {0}

    def __call__(self, data: ImageData, index: int) -> Hashable | None:
        if _size(data, index) not in self._shared:
            return None
        assert isinstance(data, ImageDataset)
        try:
            content = data.content(index)
        except OSError:  # reported when the image is read
            return None
        page = data.page(index) if isinstance(data, FolderData) else 0
        return None if content is None else (hashlib.sha256(content).digest(), page)


def _size(data: ImageData, index: int) -> int:
    return data.file_size(index) if isinstance(data, ImageDataset) else 0
