"""Adapter that turns a torch Dataset of images into an `ImageData`."""

from __future__ import annotations

import bisect
import dataclasses
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from ssl_lib.data.base import ImageData, ImageDataset, check_axes, checked_statistics, warn
from ssl_lib.data.io.decode import Decoder, Reading, Unpack
from ssl_lib.data.io.pillow import opened
from ssl_lib.data.io.raw import Array
from ssl_lib.data.io.sample import sample_of
from ssl_lib.data.io.survey import check_range, survey
from ssl_lib.data.labels import class_labels
from ssl_lib.errors import DataError

__all__ = ["WrappedDataset", "as_image_data"]

Picture: TypeAlias = Image.Image | bytes
"""A PIL image, or the content of an image file."""


class WrappedDataset(ImageDataset):
    """An `ImageData` for a map-style torch Dataset whose items are images, or tuples that start with an image.

    An image is a PIL image of any mode, which is turned upright by its EXIF orientation; the content of an image file
    as bytes; a tensor (C, H, W); or a numpy array (H, W) or (H, W, C). Tensors and arrays are uint8 or uint16, or of
    any type if `range` is given. Gray images are converted to RGB if other images have three channels. Labels and class
    names come from the attributes `targets` and `classes` of the data set, if it has them.

    Args:
        dataset: The data set. Its transform, if any, must return such images.
        mean: Mean of each channel in [0, 1]. Its length is the number of channels: 3 converts gray images to RGB, 1
            converts color PIL images to gray. None is ImageNet's, or computed from a sample for chosen bands.
        std: Standard deviation of each channel; None as for `mean`.
        channels: Number of channels, if mean is None; None uses the largest number in a fixed sample of images.
        reading: `range`, `depth` and `bands`, see `Reading`.

    Raises:
        DataError: The data set is empty, or an item of the sample is not such an image.
        ValueError: The data set has no length, its targets are not one class per image, or mean and std do not fit.
    """

    def __init__(
        self,
        dataset: Any,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        channels: int | None = None,
        **reading: Unpack[Reading],
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ValueError(f"{type(dataset).__name__} must be a map-style Dataset, with __len__ and __getitem__")
        if not len(dataset):
            raise DataError(f"{type(dataset).__name__} is empty")
        self.dataset = dataset
        channels = channels if mean is None else len(mean)
        self._given = channels  # also the number of channels that arrays may have beyond four
        self.decoder = Decoder(channels=1 if channels == 1 else 3, **reading)
        sample = {self._named(index): self._item(index) for index in sample_of(len(dataset))}
        if self.decoder.bands is None:
            self.channels = channels or max(map(_channels_of, sample.values()))
            self.decoder = dataclasses.replace(self.decoder, channels=1 if self.channels == 1 else 3)
            check_range(sample, self.decoder)
            self.mean, self.std = checked_statistics(mean, std, self.channels)
        else:
            self.decoder, self.mean, self.std = survey(self.decoder, sample, mean, std)
            self.channels = self.decoder.channels
        targets, classes = _classes_of(dataset)
        self.labels, self.class_names = None, classes
        if targets is not None:
            self.labels, self.class_names = class_labels(targets, classes)
            if len(self.labels) != len(self):
                raise ValueError(
                    f"targets must be {len(self)} integers or texts, one per image, got {len(self.labels)}"
                )
        self.read(0)  # raises a DataError for an unsupported image before any worker starts

    def __len__(self) -> int:
        return len(self.dataset)

    def file_size(self, index: int) -> int:
        """Returns the size of an image's file, if the data set has the files or their paths; else 0."""
        if isinstance(file := self._file(index), bytes):
            return len(file)
        return os.path.getsize(file) if file and os.path.isfile(file) else 0

    def content(self, index: int) -> bytes | None:
        """Returns the content of an image's file, if the data set has the files or their paths."""
        file = self._file(index)
        return Path(file).read_bytes() if isinstance(file, str) else file

    def _file(self, index: int) -> str | bytes | None:
        """The content of an image's file, or its path in the `samples` of torchvision's folders."""
        dataset, place = source_of(self.dataset, index)
        samples = getattr(dataset, "samples", None)
        if isinstance(samples, list) and samples and isinstance(samples[place], tuple):
            return str(samples[place][0])
        item = dataset.file(place) if hasattr(dataset, "file") else None
        return item if isinstance(item, bytes) else None

    def read(self, index: int) -> Tensor:
        """Returns one image (C, H, W), uint8, or float32 in [0, 1] at depth 16.

        Raises:
            DataError: The item is not an image of a supported type, or has more channels than the data set.
        """
        image = self._item(index)
        count = _channels_of(image)
        if (
            self.decoder.bands is None
            and count > self.channels
            and not (self._given == 1 and isinstance(image, Picture))
        ):
            raise DataError(
                f"{self._named(index)} has {count} channels, the data set has {self.channels}: pass "
                f"WrappedDataset(dataset, channels={count}) if all images can have them"
            )
        try:
            pixels = self._decoded(image, self._named(index))
        except ValueError as error:
            raise DataError(f"{self._named(index)}: {error}") from error
        if pixels.shape[0] not in (1, self.channels):
            raise DataError(
                f"{self._named(index)} has {pixels.shape[0]} channels, the data set has {self.channels}; pass one "
                "value of mean and std per channel to WrappedDataset(dataset, mean, std)"
            )
        return pixels.expand(self.channels, -1, -1)

    def _decoded(self, image: Picture | Array, name: str) -> Tensor:
        decoder = self.decoder
        if isinstance(image, bytes):
            return decoder.read(image, name)
        if isinstance(image, Image.Image):
            return decoder.picture(image)
        if image.dtype == np.uint8 and (decoder.range, decoder.depth, decoder.bands) == ("auto", 8, None):
            return torch.from_numpy(image).permute(2, 0, 1)
        if decoder.bands is None:  # all channels of an array
            decoder = dataclasses.replace(decoder, bands=tuple(range(image.shape[2])))
        return decoder.array(image)

    def _item(self, index: int) -> Picture | Array:
        """Returns an item's image; tensors and arrays as (H, W, C)."""
        item = self.dataset[index]
        image = item[0] if isinstance(item, tuple | list) else item
        if isinstance(image, Picture):
            return image
        is_array = isinstance(image, np.ndarray) and image.ndim in (2, 3)
        is_tensor = isinstance(image, Tensor) and image.ndim == 3
        array: Array = image.numpy() if is_tensor else image
        if not (is_array or is_tensor) or (array.dtype not in (np.uint8, np.uint16) and self.decoder.range == "auto"):
            got = f"{image.dtype} {tuple(image.shape)}" if hasattr(image, "dtype") else type(image).__name__
            raise DataError(
                f"{self._named(index)} must be a PIL image or uint8 pixels, got {got}; remove ToTensor and Normalize "
                "from its transform, the view pipeline does both"
            )
        try:
            check_axes(tuple(image.shape), first=is_tensor, channels=self._given)
        except ValueError as error:
            raise DataError(f"{self._named(index)}: {error}") from error
        return array.transpose(1, 2, 0) if is_tensor else np.atleast_3d(array)

    def _named(self, index: int) -> str:
        return f"item {index} of {type(self.dataset).__name__}"


def _classes_of(dataset: Any) -> tuple[Any, tuple[str, ...]]:
    """Returns the class of each item, or None, and the names of the classes, also inside of `Subset` and others."""
    targets, classes = getattr(dataset, "targets", None), tuple(map(str, getattr(dataset, "classes", ())))
    if targets is not None or not isinstance(dataset, Subset | ConcatDataset):
        return targets, classes
    if isinstance(dataset, Subset):
        targets, classes = _classes_of(dataset.dataset)
        return None if targets is None else [targets[int(index)] for index in dataset.indices], classes
    parts = [_classes_of(part) for part in dataset.datasets]
    if all(known is not None and names == parts[0][1] for known, names in parts):
        return [target for known, _ in parts for target in known], parts[0][1]
    if any(known is not None for known, _ in parts):
        warn(
            "the parts of a ConcatDataset have other classes, or some have no targets, so its images have no labels: "
            "set its attribute targets to one class per image, and classes to their names"
        )
    return None, ()


def source_of(dataset: Any, index: int) -> tuple[Any, int]:
    """Returns the data set inside of `Subset` and `ConcatDataset` that has an item, and the item's position in it."""
    if isinstance(dataset, Subset):
        return source_of(dataset.dataset, int(dataset.indices[index]))
    if isinstance(dataset, ConcatDataset):
        part = bisect.bisect_right(dataset.cumulative_sizes, index)
        return source_of(dataset.datasets[part], index - (dataset.cumulative_sizes[part - 1] if part else 0))
    return dataset, index


def _channels_of(image: Picture | Array) -> int:
    """Returns the channels of a picture, 1 or 3, or those of an array (H, W, C)."""
    if isinstance(image, bytes):
        try:
            with opened(image) as picture:
                return _channels_of(picture)
        except OSError:  # reported when it is read
            return 1
    if isinstance(image, Image.Image):
        return 1 if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16") else 3
    return int(image.shape[2])


def as_image_data(dataset: Any) -> ImageData:
    """Returns an `ImageData` unchanged. Wraps any other data set in a `WrappedDataset` with ImageNet's mean and std."""
    return dataset if isinstance(dataset, ImageData) else WrappedDataset(dataset)
