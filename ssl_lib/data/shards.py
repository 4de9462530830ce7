"""WebDataset shards: images in tar files, read by index, so that no archive is unpacked and no image comes twice."""

from __future__ import annotations

import itertools
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ssl_lib.data.base import ImageData, ImageDataset, Split, checked_statistics, imagenet_statistics
from ssl_lib.data.decode import OnError, read_image
from ssl_lib.data.index import EXTENSIONS
from ssl_lib.errors import DataError
from ssl_lib.registry import DATASETS

__all__ = ["ShardData", "webdataset"]


class ShardData(ImageDataset):
    """An `ImageData` of the images in uncompressed tar files, in the order of the files and of their members.

    As in WebDataset, members of one name up to the first dot belong together: `0001.jpg` and `0001.cls`, which holds
    the class index as text. At the start only the headers are read; later each image, from where it lies.

    Args:
        urls: Paths of the shards; braces are spelt out, "train-{000..146}.tar".
        channels: 3 for RGB, 1 for grey.
        mean: Mean of each channel in [0, 1]; None is ImageNet's.
        std: Standard deviation of each channel; None is ImageNet's.
        on_error: What an unreadable image does: "raise" a DataError, or "skip" (see `SkipImage`).

    Attributes:
        skipped: The unreadable images that loaders came upon and skipped, as shard:member.

    Raises:
        DataError: A shard is missing, damaged, compressed or remote, there are no images, or some lack a label.
        ValueError: `channels` or the statistics are out of range.
    """

    def __init__(
        self,
        urls: str,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        on_error: OnError = "raise",
    ) -> None:
        if channels not in (1, 3):
            raise ValueError(f"channels must be 3 (RGB) or 1 (grey), got {channels}")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        standard = imagenet_statistics(channels)
        self.mean, self.std = checked_statistics(mean or standard[0], std or standard[1], channels)
        self.channels, self.on_error = channels, on_error
        self.class_names: tuple[str, ...] = ()
        self.skipped: list[str] = []
        self.shards = [_checked(path) for path in _spell_out(urls)]
        rows, names, labels = [], [], list[int | None]()
        for number, shard in enumerate(tqdm(self.shards, "shards", leave=False, disable=None)):
            for name, offset, size, label in _images_of(shard):
                rows.append((number, offset, size))
                names.append(os.fsencode(name))
                labels.append(label)
        if not rows:
            raise DataError(f"{urls}: no images in these shards (looked for *{', *'.join(EXTENSIONS)})")
        known = [label for label in labels if label is not None]
        if known and len(known) < len(labels):
            raise DataError(f"{urls}: {len(labels) - len(known)} of {len(labels)} images have no .cls beside them")
        self.labels = torch.tensor(known) if known else None
        self._rows, self._names = np.array(rows, dtype=np.int64), np.array(names)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Tensor:
        """Returns one image, uint8 (C, H, W).

        Raises:
            DataError: It cannot be read; a SkipImage where `on_error` is "skip".
        """
        number, offset, size = self._rows[index].tolist()
        try:
            with open(self.shards[number], "rb") as file:
                content = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise DataError(f"{self.shards[number]}: cannot be read any more ({error.strerror})") from error
        return read_image(
            content, f"{self.shards[number]}:{os.fsdecode(self._names[index])}", self.channels, self.on_error
        )


@DATASETS.register("webdataset")
def webdataset(
    urls: str,
    test_urls: str | None = None,
    channels: int = 3,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    on_error: OnError = "raise",
    split: Split = "train",
) -> ImageData | None:
    """WebDataset shards on disk: tar files of images, with `.cls` files where they have labels (see `ShardData`).

    Args:
        urls: Paths of the training shards, such as "train-{000..146}.tar".
        test_urls: Paths of labelled test shards.
        channels: 3 for RGB, 1 for grey.
        mean: Mean of each channel in [0, 1]; None is ImageNet's.
        std: Standard deviation of each channel; None is ImageNet's.
        on_error: What an unreadable image does: "raise" a DataError, or "skip" (left out, listed at the end).
        split: See `Split`; there is no "bank".

    Raises:
        DataError: As `ShardData`; or the test images have no labels.
    """
    if split == "train":
        return ShardData(urls, channels, mean, std, on_error)
    if split == "bank" or test_urls is None:
        return None
    data = ShardData(test_urls, channels, mean, std, on_error)
    if data.labels is None:
        raise DataError(f"{test_urls}: the test images need labels, a .cls beside each")
    return data


def _spell_out(urls: str) -> list[str]:
    """`a-{00..02}.tar` and `{a,b}.tar` as lists of paths."""
    parts = re.split(r"\{([^{}]*)\}", urls)  # text and braces by turns
    choices = []
    for place, part in enumerate(parts):
        span = re.fullmatch(r"(\d+)\.\.(\d+)", part) if place % 2 else None
        if span:
            numbers = range(int(span[1]), int(span[2]) + 1)
            choices.append([str(number).zfill(len(span[1])) for number in numbers])
        else:
            choices.append(part.split(",") if place % 2 else [part])
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _checked(path: str) -> str:
    if re.match(r"\w+:", path) and not os.path.exists(path):
        raise DataError(f"{path}: shards are read from disks; fetch them first, or mount where they lie")
    if not Path(path).expanduser().is_file():
        raise DataError(f"{Path(path).expanduser().absolute()}: no such shard")
    return str(Path(path).expanduser())


def _key(name: str) -> tuple[str, str]:
    """A member's folder and name up to the first dot of the name, and what follows."""
    folder, slash, last = name.rpartition("/")
    stem, _, kind = last.partition(".")
    return folder + slash + stem, kind.lower()


def _label(content: bytes, name: str) -> int:
    try:
        label = int(content)
    except ValueError as error:
        raise DataError(f"{name} must hold a class index, got {content!r}") from error
    if not 0 <= label < 2**31:
        raise DataError(f"{name} must hold a class index from 0 on, got {label}")
    return label


def _images_of(shard: str) -> Iterator[tuple[str, int, int, int | None]]:
    """Name, offset, size and label of each image of a shard."""
    images, labels = [], {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                key, kind = _key(member.name)
                if not member.isfile() or member.issparse():  # links and the like; files with holes left out
                    continue
                if f".{kind}" in EXTENSIONS:
                    images.append((key, member.name, member.offset_data, member.size))
                elif kind == "cls" and (content := archive.extractfile(member)):
                    labels[key] = _label(content.read(32), f"{shard}:{member.name}")
            end = archive.offset
        with open(shard, "rb") as file:  # tarfile ends quietly where a header is damaged
            if os.pread(file.fileno(), tarfile.BLOCKSIZE, end) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"damaged or cut off at byte {end}")
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{shard}: not a whole, uncompressed tar file of images ({error})") from error
    for key, name, offset, size in images:
        yield name, offset, size, labels.get(key)
