"""WebDataset shards: images in local or remote tar files, read by index without unpacking the archives."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_lib.data.base import ImageData, ImageDataset, Split
from ssl_lib.data.io.decode import MAX_PIXELS, Decoder, Depth, OnError, Reading, Unpack
from ssl_lib.data.io.formats import EXTENSIONS
from ssl_lib.data.io.raw import Bands, Range
from ssl_lib.data.io.remote import is_remote, read_range
from ssl_lib.data.io.sample import sample_of
from ssl_lib.data.io.survey import sampled, survey
from ssl_lib.data.io.tar import NO_LABEL, tables_of
from ssl_lib.data.labels import class_labels
from ssl_lib.errors import DataError
from ssl_lib.registry import DATASETS

__all__ = ["ShardData", "webdataset"]

_CONCURRENT_READS = 16  # images of a batch


class _Location(NamedTuple):
    """Location of an image in a shard; its text is the name in messages."""

    shard: str
    member: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}:{self.member}"


class ShardData(ImageDataset):
    """An `ImageData` of the images in uncompressed tar files, in the order of the files and of their members.

    As in WebDataset, members with the same name up to the first dot belong together: `0001.jpg` is the image and
    `0001.cls` its class index as text. The constructor reads only the tar headers; `read` reads a single image from the
    archive. The list of images of a remote shard is cached in `$XDG_CACHE_HOME/ssl_lib` until the version of the shard
    on the server changes.

    Args:
        urls: One or several shards: paths or glob patterns such as "shards/*.tar" (sorted by name); or URLs, with the
            extra `remote`. Braces are expanded in both: "https://host/train-{000..146}.tar".
        channels: 3 for RGB, 1 for gray.
        mean: Mean of each channel in [0, 1]; None is ImageNet's.
        std: Standard deviation of each channel; None is ImageNet's.
        on_error: What to do with an unreadable image: "raise" a DataError, or "skip" it (see `SkipImage`).
        field: The name of the images after the first dot, such as "image.png"; None takes all images.
        reading: See `Reading`; `pages` must be "first".

    Attributes:
        shards: Path or URL of each shard.
        skipped: The unreadable images that loaders skipped so far, as shard:member.

    Raises:
        DataError: A shard is missing, damaged or compressed, there are no images, or some images have no label; or a
            server does not answer or does not support byte ranges.
        ConfigError: A package for such URLs is missing.
        ValueError: `channels`, `on_error` or the statistics are out of range.
    """

    def __init__(
        self,
        urls: str | list[str],
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        on_error: OnError = "raise",
        field: str | None = None,
        **reading: Unpack[Reading],
    ) -> None:
        decoder = Decoder(channels=channels, on_error=on_error, **reading)
        if decoder.pages == "all":
            raise ValueError("pages must be 'first' for shards: save the pages as images")
        self.class_names: tuple[str, ...] = ()
        self.skipped: list[str] = []
        self._fetched: dict[int, bytes] = {}
        self.shards = _expand([urls] if isinstance(urls, str) else urls)
        tables = tables_of(self.shards, field)
        self._images = np.concatenate(tables)
        self._shard_of = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        if not len(self):
            raise DataError(f"{urls}: no images in these shards (expected *{', *'.join(EXTENSIONS)})")
        labels = torch.from_numpy(self._images["label"].copy())
        missing = int((labels == NO_LABEL).sum())
        if 0 < missing < len(self):
            raise DataError(f"{urls}: {missing} of {len(self)} images have no .cls file; add one for each, or for none")
        self.labels = None
        if not missing:
            self.labels, self.class_names = class_labels(labels)
        check = not any(map(is_remote, self.shards))  # of remote shards, only images that are needed are read
        positions = sample_of(len(self)) if check or decoder.bands else ()
        sample = sampled(positions, self.name, lambda index: _content(self._locate(index)), decoder)
        self.decoder, self.mean, self.std = survey(decoder, sample, mean, std, check=check)
        self.channels, self.on_error = self.decoder.channels, on_error

    def __len__(self) -> int:
        return len(self._images)

    def prepare(self, indices: Sequence[int]) -> None:
        """Downloads the images of a batch that are in remote shards concurrently, for the following calls of `read`."""
        locations = {index: self._locate(index) for index in indices}
        remote = {index: location for index, location in locations.items() if is_remote(location.shard)}
        with ThreadPoolExecutor(_CONCURRENT_READS) as threads:
            self._fetched = dict(zip(remote, threads.map(_content, remote.values()), strict=True))

    def name(self, index: int) -> str:
        """Returns the name of one image as shard:member."""
        return str(self._locate(index))

    def key(self, index: int) -> str:
        """Returns the name of the shard's file and of the member."""
        location = self._locate(index)
        return f"{location.shard.rpartition('/')[2]}:{location.member}"

    def place(self, index: int) -> Hashable:
        """Returns the shard, by its real path, and the position in it."""
        location = self._locate(index)
        shard = location.shard if is_remote(location.shard) else os.path.realpath(location.shard)
        return shard, location.offset

    def file_size(self, index: int) -> int:
        """Returns the size of an image in its shard in bytes."""
        return self._locate(index).size

    def content(self, index: int) -> bytes | None:
        """Returns the content of an image in a local shard."""
        location = self._locate(index)
        return None if is_remote(location.shard) else _content(location)

    def read(self, index: int) -> Tensor:
        """Returns one image (C, H, W), uint8, or float32 in [0, 1] at depth 16.

        Raises:
            DataError: The image cannot be read. This is a SkipImage if `on_error` is "skip" and its content is damaged.
        """
        location = self._locate(index)
        content = self._fetched.pop(index, None)
        content = _content(location) if content is None else content
        return self.decoder.read(content, str(location))

    def _locate(self, index: int) -> _Location:
        member, offset, size, _ = self._images[index].tolist()
        return _Location(self.shards[int(self._shard_of[index])], os.fsdecode(member), offset, size)


@DATASETS.register("webdataset")
def webdataset(
    urls: str | list[str],
    test_urls: str | list[str] | None = None,
    channels: int = 3,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    on_error: OnError = "raise",
    field: str | None = None,
    range: Range = "auto",
    depth: Depth = 8,
    bands: Bands = None,
    max_pixels: int = MAX_PIXELS,
    split: Split = "train",
) -> ImageData | None:
    """WebDataset shards: tar files of images, with `.cls` files for the labels (see `ShardData`).

    Args:
        urls: The training shards, one string or a list: "train-{000..146}.tar", "shards/*.tar", or, with the extra
            `remote`, URLs such as "https://host/train-{000..146}.tar" and "s3://bucket/train-{000..146}.tar".
        test_urls: The labeled test shards, in the same form.
        channels: 3 for RGB, 1 for gray.
        mean: Mean of each channel in [0, 1]; None is ImageNet's.
        std: Standard deviation of each channel; None is ImageNet's.
        on_error: What to do with an unreadable image: "raise" a DataError, or "skip" it (listed at the end).
        field: The name of the images after the first dot, such as "image.png"; None takes all images.
        range: Which values become black and white: "auto" is the range of the file's type, such as 0 to 65535 for 16
            bits; "percentile" is the 1st and 99th percentile of each channel of an image; or two values [low, high].
        depth: 8 for uint8 pixels; 16 for float32 in [0, 1], which keeps 16-bit values.
        bands: Indices of the bands to use, or "all"; None uses gray and RGB files, and refuses other numbers of bands.
        max_pixels: Larger images are refused.
        split: See `Split`; there is no "bank".

    Raises:
        DataError: See `ShardData`; or the test images have no labels.
        ConfigError: See `ShardData`.
    """
    reading = Reading(range=range, depth=depth, bands=bands, max_pixels=max_pixels)
    if split == "train":
        return ShardData(urls, channels, mean, std, on_error, field, **reading)
    if split == "bank" or test_urls is None:
        return None
    data = ShardData(test_urls, channels, mean, std, on_error, field, **reading)
    if data.labels is None:
        raise DataError(f"{test_urls}: the test images need labels, a .cls file for each image")
    return data


def _expand(urls: list[str]) -> list[str]:
    """Expands braces and glob patterns to a list of shards."""
    shards = [shard for text in urls for url in _expand_braces(text) for shard in _expand_glob(url)]
    if not shards:
        raise DataError("urls is empty: set it to at least one shard")
    return shards


def _expand_braces(text: str) -> list[str]:
    """Expands `a-{00..02}.tar` and `{a,b}.tar` to lists."""
    parts = re.split(r"\{([^{}]*)\}", text)  # alternates between plain text and the content of braces
    choices = []
    for position, part in enumerate(parts):
        span = re.fullmatch(r"(\d+)\.\.(\d+)", part) if position % 2 else None
        if span:
            numbers = range(int(span[1]), int(span[2]) + 1)
            choices.append([str(number).zfill(len(span[1])) for number in numbers])
        else:
            choices.append(part.split(",") if position % 2 else [part])
    return ["".join(combination) for combination in itertools.product(*choices)]


def _expand_glob(url: str) -> list[str]:
    """Expands a path, which may be a glob pattern, to sorted files. A URL is returned unchanged."""
    if is_remote(url):
        return [url]
    path = os.path.expanduser(url)
    files = [path] if os.path.isfile(path) else sorted(filter(os.path.isfile, glob.glob(path)))
    if not files:
        raise DataError(f"{os.path.abspath(path)}: no such shard")
    return files


def _content(location: _Location) -> bytes:
    if is_remote(location.shard):
        return read_range(location.shard, location.offset, location.size, str(location))
    try:
        with open(location.shard, "rb") as file:
            return os.pread(file.fileno(), location.size, location.offset)
    except OSError as error:
        raise DataError(f"{location.shard}: can no longer be read ({error.strerror})") from error
