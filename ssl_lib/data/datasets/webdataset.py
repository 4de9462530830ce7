"""WebDataset shards: images in tar files, read by index, so that no archive is unpacked and no image comes twice."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_lib.data.base import ImageData, ImageDataset, Split, checked_statistics
from ssl_lib.data.io.decode import OnError, check_reading, read_image
from ssl_lib.data.io.index import EXTENSIONS
from ssl_lib.data.io.remote import is_remote, read_range
from ssl_lib.data.io.tar import NO_LABEL, tables_of
from ssl_lib.errors import DataError
from ssl_lib.registry import DATASETS

__all__ = ["ShardData", "webdataset"]

_AT_ONCE = 16  # images of a batch that are waited for at a time


class _Place(NamedTuple):
    """Where an image lies; as text, what to call it in a message."""

    shard: str
    member: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}:{self.member}"


class ShardData(ImageDataset):
    """An `ImageData` of the images in uncompressed tar files, in the order of the files and of their members.

    As in WebDataset, members of one name up to the first dot belong together: `0001.jpg` and `0001.cls`, which holds
    the class index as text. At the start only the headers are read; later each image, from where it lies. The list of
    a remote shard is kept in `$XDG_CACHE_HOME/ssl_lib` until the server names another version of the shard.

    Args:
        urls: Shards or lists of them: paths, with patterns as in "shards/*.tar" in the order of their names; or, with
            the extra `remote`, URLs. Braces are spelt out in both: "https://host/train-{000..146}.tar".
        channels: 3 for RGB, 1 for gray.
        mean: Mean of each channel in [0, 1]; None is ImageNet's.
        std: Standard deviation of each channel; None is ImageNet's.
        on_error: What an unreadable image does: "raise" a DataError, or "skip" (see `SkipImage`).

    Attributes:
        shards: Path or URL of each shard.
        skipped: The unreadable images that loaders came upon and skipped, as shard:member.

    Raises:
        DataError: A shard is missing, damaged or compressed, there are no images, or some lack a label; a server does
            not answer, or hands out whole files only.
        ConfigError: A package that reads such URLs is missing.
        ValueError: `channels`, `on_error` or the statistics are out of range.
    """

    def __init__(
        self,
        urls: str | list[str],
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        on_error: OnError = "raise",
    ) -> None:
        check_reading(channels, on_error)
        self.mean, self.std = checked_statistics(mean, std, channels)
        self.channels, self.on_error = channels, on_error
        self.class_names: tuple[str, ...] = ()
        self.skipped: list[str] = []
        self._fetched: dict[int, bytes] = {}
        self.shards = _spell_out([urls] if isinstance(urls, str) else urls)
        tables = tables_of(self.shards)
        self._images = np.concatenate(tables)
        self._shard_of = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        if not len(self):
            raise DataError(f"{urls}: no images in these shards (looked for *{', *'.join(EXTENSIONS)})")
        labels = torch.from_numpy(self._images["label"].copy())
        missing = int((labels == NO_LABEL).sum())
        if 0 < missing < len(self):
            raise DataError(f"{urls}: {missing} of {len(self)} images have no .cls beside them")
        self.labels = None if missing else labels

    def __len__(self) -> int:
        return len(self._images)

    def prepare(self, indices: Sequence[int]) -> None:
        """Fetches those images of a batch that lie in remote shards all at once, for `read` to find them here."""
        places = {index: self._place(index) for index in indices}
        remote = {index: place for index, place in places.items() if is_remote(place.shard)}
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            self._fetched = dict(zip(remote, threads.map(_content, remote.values()), strict=True))

    def name(self, index: int) -> str:
        """Returns the shard and the member in it."""
        return str(self._place(index))

    def read(self, index: int) -> Tensor:
        """Returns one image, uint8 (C, H, W).

        Raises:
            DataError: It cannot be read; a SkipImage where `on_error` is "skip" and it is its content that cannot.
        """
        place = self._place(index)
        content = self._fetched.pop(index, None)
        return read_image(_content(place) if content is None else content, str(place), self.channels, self.on_error)

    def _place(self, index: int) -> _Place:
        member, offset, size, _ = self._images[index].tolist()
        return _Place(self.shards[int(self._shard_of[index])], os.fsdecode(member), offset, size)


@DATASETS.register("webdataset")
def webdataset(
    urls: str | list[str],
    test_urls: str | list[str] | None = None,
    channels: int = 3,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    on_error: OnError = "raise",
    split: Split = "train",
) -> ImageData | None:
    """WebDataset shards: tar files of images, with `.cls` files where they have labels (see `ShardData`).

    Args:
        urls: The training shards, as a text or a list: "train-{000..146}.tar", "shards/*.tar", or URLs such as
            "https://host/train-{000..146}.tar" and "s3://bucket/train-{000..146}.tar" with the extra `remote`.
        test_urls: Labeled test shards, likewise.
        channels: 3 for RGB, 1 for gray.
        mean: Mean of each channel in [0, 1]; None is ImageNet's.
        std: Standard deviation of each channel; None is ImageNet's.
        on_error: What an unreadable image does: "raise" a DataError, or "skip" (left out, listed at the end).
        split: See `Split`; there is no "bank".

    Raises:
        DataError: As `ShardData`; or the test images have no labels.
        ConfigError: As `ShardData`.
    """
    if split == "train":
        return ShardData(urls, channels, mean, std, on_error)
    if split == "bank" or test_urls is None:
        return None
    data = ShardData(test_urls, channels, mean, std, on_error)
    if data.labels is None:
        raise DataError(f"{test_urls}: the test images need labels, a .cls beside each")
    return data


def _spell_out(urls: list[str]) -> list[str]:
    """The shards that patterns stand for."""
    shards = [shard for text in urls for url in _without_braces(text) for shard in _matches(url)]
    if not shards:
        raise DataError("no shards are named: urls is empty")
    return shards


def _without_braces(text: str) -> list[str]:
    """`a-{00..02}.tar` and `{a,b}.tar` as lists."""
    parts = re.split(r"\{([^{}]*)\}", text)  # text and braces by turns
    choices = []
    for place, part in enumerate(parts):
        span = re.fullmatch(r"(\d+)\.\.(\d+)", part) if place % 2 else None
        if span:
            numbers = range(int(span[1]), int(span[2]) + 1)
            choices.append([str(number).zfill(len(span[1])) for number in numbers])
        else:
            choices.append(part.split(",") if place % 2 else [part])
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _matches(url: str) -> list[str]:
    """A URL as it is; the files of a path, which may be a pattern."""
    if is_remote(url):
        return [url]
    path = os.path.expanduser(url)
    files = [path] if os.path.isfile(path) else sorted(filter(os.path.isfile, glob.glob(path)))
    if not files:
        raise DataError(f"{os.path.abspath(path)}: no such shard")
    return files


def _content(place: _Place) -> bytes:
    if is_remote(place.shard):
        return read_range(place.shard, place.offset, place.size, str(place))
    try:
        with open(place.shard, "rb") as file:
            return os.pread(file.fileno(), place.size, place.offset)
    except OSError as error:
        raise DataError(f"{place.shard}: cannot be read any more ({error.strerror})") from error
