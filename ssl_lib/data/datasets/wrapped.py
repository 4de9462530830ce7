"""Adapter that turns a torch Dataset of images into an `ImageData`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_lib.data.base import ImageData, ImageDataset, SkipImage, checked_statistics
from ssl_lib.data.datasets.torch_items import Picture, channels_of, classes_of, file_of, image_of, source_of
from ssl_lib.data.io.decode import Decoder, OnError, Reading, Unpack
from ssl_lib.data.io.raw import Array
from ssl_lib.data.io.sample import sample_of
from ssl_lib.data.io.survey import check_range, survey
from ssl_lib.data.labels import class_labels
from ssl_lib.errors import DataError

__all__ = ["WrappedDataset", "as_image_data"]


class WrappedDataset(ImageDataset):
    """An `ImageData` for a map-style torch Dataset whose items are images, or tuples that start with an image.

    An image is a PIL image of any mode, which is turned upright by its EXIF orientation; the content of an image file
    as bytes; a tensor (C, H, W); or a numpy array (H, W) or (H, W, C). Tensors and arrays are uint8 or uint16, or of
    any type if `range` is given. Gray images are converted to RGB if other images have three channels. Labels and class
    names come from the attributes `targets` (or `labels`) and `classes` (or `class_names`) of the data set, if it has
    them, also inside of `Subset` and `ConcatDataset`.

    Args:
        dataset: The data set. Its transform, if any, must return such images.
        mean: Mean of each channel in [0, 1]. Its length is the number of channels: 3 converts gray images to RGB, 1
            converts color PIL images to gray. None is ImageNet's, or computed from a sample for chosen bands.
        std: Standard deviation of each channel; None as for `mean`.
        channels: Number of channels of the items; None is that of `mean`, or the largest number in a fixed sample.
        on_error: What to do with an unreadable file: "raise" a DataError, or "skip" it (see `SkipImage`).
        reading: See `Reading`; `pages` must be "first".

    Attributes:
        skipped: The unreadable items that loaders skipped so far.

    Raises:
        DataError: The data set is empty, or an item of the sample is not such an image, or has other bands.
        ValueError: The data set has no length, its targets are not one class per image, or mean and std do not fit.
    """

    def __init__(
        self,
        dataset: Any,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        channels: int | None = None,
        on_error: OnError = "raise",
        **reading: Unpack[Reading],
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ValueError(f"{type(dataset).__name__} must be a map-style Dataset, with __len__ and __getitem__")
        if not len(dataset):
            raise DataError(f"{type(dataset).__name__} is empty")
        self.dataset, self.on_error, self.skipped = dataset, on_error, list[str]()
        self._given = channels or (None if mean is None else len(mean))  # arrays may have more than four of them
        self.decoder = Decoder(channels=1 if self._given == 1 else 3, on_error=on_error, **reading)
        if self.decoder.pages == "all":
            raise ValueError("pages must be 'first' for torch and Hugging Face data: save the pages as images")
        self._look(mean, std)
        targets, self.class_names = classes_of(dataset)
        self.labels = None
        if targets is not None:
            self.labels, self.class_names = class_labels(targets, self.class_names)
            if len(self.labels) != len(self):
                raise ValueError(
                    f"targets must be {len(self)} integers or texts, one per image, got {len(self.labels)}"
                )
        with contextlib.suppress(SkipImage):
            self.read(0)  # raises a DataError for an unsupported image before any worker starts

    def _look(self, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> None:
        """Finds the channels, mean and std by a sample of the items, and reports ranges, bands and pages."""
        sample = {self._named(index): self._item(index) for index in sample_of(len(self.dataset))}
        arrays = not all(isinstance(image, Picture) for image in sample.values())
        if self.decoder.bands is not None or not arrays:
            if self.decoder.bands is None and self._given is None and self._most_channels(sample) == 1:
                self.decoder = dataclasses.replace(self.decoder, channels=1)
            self.decoder, self.mean, self.std = survey(self.decoder, sample, mean, std)
            self.channels = self.decoder.channels
        else:
            self.channels = self._given or self._most_channels(sample)
            self.decoder = dataclasses.replace(self.decoder, channels=1 if self.channels == 1 else 3)
            check_range(sample, self.decoder)
            self.mean, self.std = checked_statistics(mean, std, self.channels)

    def _most_channels(self, sample: Mapping[str, Picture | Array]) -> int:
        counts = [1]
        for image in sample.values():
            with contextlib.suppress(Exception):  # reported when the image is read
                counts.append(channels_of(image, self.decoder.max_pixels))
        return max(counts)

    def __len__(self) -> int:
        return len(self.dataset)

    def place(self, index: int) -> Hashable:
        """Returns the data set inside of `Subset` and `ConcatDataset`, and the position in it."""
        base, place = source_of(self.dataset, index)
        return id(base), place

    def file_size(self, index: int) -> int:
        """Returns the size of an image's file, if the data set has the files or their paths; else 0."""
        if isinstance(file := file_of(self.dataset, index), bytes):
            return len(file)
        return os.path.getsize(file) if file and os.path.isfile(file) else 0

    def content(self, index: int) -> bytes | None:
        """Returns the content of an image's file, if the data set has the files or their paths."""
        file = file_of(self.dataset, index)
        return Path(file).read_bytes() if isinstance(file, str) else file

    def read(self, index: int) -> Tensor:
        """Returns one image (C, H, W), uint8, or float32 in [0, 1] at depth 16.

        Raises:
            DataError: The item is not an image of a supported type, or has more channels than the data set. This is a
                SkipImage if `on_error` is "skip" and a file cannot be read.
        """
        image, name = self._item(index), self._named(index)
        try:
            if self.decoder.bands is None and not (self._given == 1 and isinstance(image, Picture)):
                self._check_channels(image, name)
            pixels = self._decoded(image, name)
        except ValueError as error:
            raise DataError(f"{name}: {error}") from error
        if pixels.shape[0] not in (1, self.channels):
            raise DataError(
                f"{name} has {pixels.shape[0]} channels, the data set has {self.channels}; pass one value of mean and "
                "std per channel to WrappedDataset(dataset, mean, std)"
            )
        return pixels.expand(self.channels, -1, -1)

    def _check_channels(self, image: Picture | Array, name: str) -> None:
        if isinstance(image, bytes) and self.channels == 3:
            return  # decoded to three channels, or refused
        count = 0
        with contextlib.suppress(OSError, Image.DecompressionBombError):  # reported when the image is decoded
            count = channels_of(image, self.decoder.max_pixels)
        if count > self.channels:
            raise DataError(
                f"{name} has {count} channels, the data set has {self.channels}: pass "
                f"WrappedDataset(dataset, channels={count}) if all images can have them"
            )

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

    def _named(self, index: int) -> str:
        return f"item {index} of {type(self.dataset).__name__}"

    def _item(self, index: int) -> Picture | Array:
        try:
            return image_of(self.dataset[index], self.decoder.range, self._given)
        except DataError as error:
            raise DataError(f"{self._named(index)} {error}") from error


def as_image_data(dataset: Any) -> ImageData:
    """Returns an `ImageData` unchanged. Wraps any other data set in a `WrappedDataset` with ImageNet's mean and std."""
    return dataset if isinstance(dataset, ImageData) else WrappedDataset(dataset)
