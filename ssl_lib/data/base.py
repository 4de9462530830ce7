"""What every data set offers: uint8 images by index, labels where there are any, and statistics to normalize by."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_lib.errors import DataError

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Batch",
    "ImageData",
    "ImageDataset",
    "SkipImage",
    "Split",
    "checked_statistics",
    "image_name",
    "imagenet_statistics",
]

Split: TypeAlias = Literal["train", "bank", "test"]
"""What a data set is asked for: "train", the images to learn from (labels may be None); "bank", labeled training
images for kNN and probes, asked for only when those of "train" have no labels; "test", labeled test images. A factory
in `DATASETS` returns None for a split that it does not have."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Batch:
    """One batch as it comes from a loader.

    Attributes:
        images: uint8 (N, C, H, W); or one such tensor per view, already cropped by the workers.
        labels: Class indices, int64 (N,), where the data have them.
        indices: Positions of the images in the data set, int64 (N,).
    """

    images: Tensor | tuple[Tensor, ...]
    labels: Tensor | None
    indices: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device; the copy is not waited for."""
        send = functools.partial(Tensor.to, device=device, non_blocking=True)
        images = send(self.images) if isinstance(self.images, Tensor) else tuple(map(send, self.images))
        return Batch(images, None if self.labels is None else send(self.labels), send(self.indices))

    def split(self, count: int) -> list[Batch]:
        """Cuts it into micro-batches of one size; their number must divide that of the images."""
        views = self.images if isinstance(self.images, tuple) else (self.images,)
        images = list(zip(*(view.chunk(count) for view in views), strict=True))
        labels = [None] * count if self.labels is None else self.labels.chunk(count)
        return [
            Batch(micro if isinstance(self.images, tuple) else micro[0], label, indices)
            for micro, label, indices in zip(images, labels, self.indices.chunk(count), strict=True)
        ]


@runtime_checkable
class ImageData(Protocol):
    """A data set: anything with these members, no base class needed."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, in [0, 1]."""

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, in the units of `mean`."""

    @property
    def labels(self) -> Tensor | None:
        """Class indices, int64 (N,), or None."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their indices; empty where unknown."""

    @property
    def channels(self) -> int:
        """C of every image."""

    def __len__(self) -> int:
        """N, the number of images."""

    def read(self, index: int) -> Tensor:
        """Returns one image, uint8 (C, H, W).

        Raises:
            DataError: The image cannot be read.
            SkipImage: It cannot be read and is to be left out.
        """


class ImageDataset(Dataset[tuple[Tensor, int] | Tensor]):
    """Base of the library's own `ImageData`: also a torch Dataset, of (image, label), or of images without labels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: Tensor | None
    class_names: tuple[str, ...]
    channels: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Tensor:
        """Returns one image, uint8 (C, H, W)."""

    def name(self, index: int) -> str:
        """What people call an image; its index, where nothing else is known."""
        return str(index)

    def prepare(self, indices: Sequence[int]) -> None:
        """Told by a loader which images it will read next; for those that are better fetched together."""

    def __getitem__(self, index: int) -> tuple[Tensor, int] | Tensor:
        """Returns the uint8 image (C, H, W) at `index`, and its class where the data have labels."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} images")
        image = self.read(index % len(self))
        return image if self.labels is None else (image, int(self.labels[index]))

    def __repr__(self) -> str:
        classes = (
            "no labels" if self.labels is None else f"{len(self.class_names) or len(self.labels.unique())} classes"
        )
        channels = f"{self.channels} channel{'' if self.channels == 1 else 's'}"
        return f"{type(self).__name__}({len(self):,} images of {channels}, {classes})"


def image_name(data: ImageData, index: int) -> str:
    """What people call an image: its file, relative to the folder, where it has one; or else its index."""
    return data.name(index) if isinstance(data, ImageDataset) else str(index)


def checked_statistics(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation as tuples; ImageNet's in the place of None (see `imagenet_statistics`).

    Raises:
        ValueError: There is not one of each per channel, or they do not suit values in [0, 1].
    """
    standard = imagenet_statistics(channels)
    mean, std = mean or standard[0], std or standard[1]
    if not len(mean) == len(std) == channels:
        raise ValueError(f"mean {mean} and std {std} need one value for each of {channels} channel(s)")
    if not all(0 <= value <= 1 for value in mean) or not all(0 < value <= 1 for value in std):
        raise ValueError(
            f"mean {mean} and std {std} are of values in [0, 1], std above 0: divide those of uint8 by 255"
        )
    return tuple(mean), tuple(std)


class SkipImage(DataError):
    """Raised by `ImageData.read` for an image to be left out; a training loader takes the next one in its place."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.args[1]}"


def imagenet_statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """ImageNet's mean and standard deviation; for gray or other images their averages over the three colors."""
    if channels == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    return (sum(IMAGENET_MEAN) / 3,) * channels, (sum(IMAGENET_STD) / 3,) * channels
