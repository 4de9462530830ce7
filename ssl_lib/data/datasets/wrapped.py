"""Adapter that turns a torch Dataset of images into an `ImageData`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from ssl_lib.data.base import ImageData, ImageDataset, check_axes, checked_statistics, warn
from ssl_lib.data.io.decode import Decoder
from ssl_lib.data.io.survey import sample_of
from ssl_lib.data.labels import class_labels
from ssl_lib.errors import DataError

__all__ = ["WrappedDataset", "as_image_data"]


class WrappedDataset(ImageDataset):
    """An `ImageData` for a map-style torch Dataset whose items are images, or tuples that start with an image.

    An image is a PIL image of any mode, which is turned upright by its EXIF orientation; a uint8 tensor (C, H, W); or a
    uint8 numpy array (H, W) or (H, W, C). Gray images are converted to RGB if other images have three channels. Labels
    and class names come from the attributes `targets` and `classes` of the data set, if it has them.

    Args:
        dataset: The data set. Its transform, if any, must return uint8 images.
        mean: Mean of each channel in [0, 1]. Its length is the number of channels: 3 converts gray images to RGB, 1
            converts color PIL images to gray. None is ImageNet's.
        std: Standard deviation of each channel; None is ImageNet's.
        channels: Number of channels, if mean is None; None uses the largest number in a fixed sample of images.

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
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ValueError(f"{type(dataset).__name__} must be a map-style Dataset, with __len__ and __getitem__")
        if not len(dataset):
            raise DataError(f"{type(dataset).__name__} is empty")
        self.dataset = dataset
        channels = channels if mean is None else len(mean)
        self._given = channels  # also the number of channels that arrays may have beyond four
        found = max(self._channels(index) for index in sample_of(len(dataset)))
        self.channels = channels or found
        self._decoder = Decoder(channels=1 if self.channels == 1 else 3)
        self.mean, self.std = checked_statistics(mean, std, self.channels)
        self.labels, self.class_names = None, tuple(map(str, getattr(dataset, "classes", ())))
        targets = getattr(dataset, "targets", None)
        if targets is not None:
            self.labels, self.class_names = class_labels(targets, self.class_names)
            if len(self.labels) != len(self):
                raise ValueError(
                    f"targets must be {len(self)} integers or texts, one per image, got {len(self.labels)}"
                )
        elif isinstance(dataset, Subset | ConcatDataset):
            warn(
                f"the labels of a {type(dataset).__name__} are not known, since it has no attribute targets: set it to "
                "one class index per image if the labels are needed"
            )
        self.read(0)  # raises a DataError for an unsupported image before any worker starts

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> Tensor:
        """Returns one image, uint8 (C, H, W).

        Raises:
            DataError: The item is not an image of a supported type, or has more channels than the data set.
        """
        image = self._item(index)
        count = _channels_of(image)
        if count > self.channels and not (self._given == 1 and isinstance(image, Image.Image)):
            raise DataError(
                f"{self._named(index)} has {count} channels, the data set has {self.channels}: pass "
                f"WrappedDataset(dataset, channels={count}) if all images can have them"
            )
        if isinstance(image, Image.Image):
            pixels = self._decoder.picture(image)
        else:
            pixels = image if isinstance(image, Tensor) else torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)
        if pixels.shape[0] not in (1, self.channels):
            raise DataError(
                f"{self._named(index)} has {pixels.shape[0]} channels, the data set has {self.channels}; pass one "
                "value of mean and std per channel to WrappedDataset(dataset, mean, std)"
            )
        return pixels.expand(self.channels, -1, -1)

    def _item(self, index: int) -> Any:
        item = self.dataset[index]
        image = item[0] if isinstance(item, tuple | list) else item
        if isinstance(image, Image.Image):
            return image
        is_array = isinstance(image, np.ndarray) and image.ndim in (2, 3)
        is_tensor = isinstance(image, Tensor) and image.ndim == 3
        if not (is_array or is_tensor) or image.dtype not in (torch.uint8, np.uint8):
            got = f"{image.dtype} {tuple(image.shape)}" if hasattr(image, "dtype") else type(image).__name__
            raise DataError(
                f"{self._named(index)} must be a PIL image or uint8 pixels, got {got}; remove ToTensor and Normalize "
                "from its transform, the view pipeline does both"
            )
        try:
            check_axes(tuple(image.shape), first=is_tensor, channels=self._given)
        except ValueError as error:
            raise DataError(f"{self._named(index)}: {error}") from error
        return image

    def _channels(self, index: int) -> int:
        return _channels_of(self._item(index))

    def _named(self, index: int) -> str:
        return f"item {index} of {type(self.dataset).__name__}"


def _channels_of(image: Any) -> int:
    """Returns the channels of a PIL image (1 or 3), an array (H, W) or (H, W, C), or a tensor (C, H, W)."""
    if isinstance(image, Image.Image):
        return 1 if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16") else 3
    return len(image) if isinstance(image, Tensor) else int(np.atleast_3d(image).shape[2])


def as_image_data(dataset: Any) -> ImageData:
    """Returns an `ImageData` unchanged. Wraps any other data set in a `WrappedDataset` with ImageNet's mean and std."""
    return dataset if isinstance(dataset, ImageData) else WrappedDataset(dataset)
