"""Adapter that turns a torch Dataset of images into an `ImageData`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_lib.data.base import ImageData, ImageDataset, checked_statistics
from ssl_lib.data.io.decode import to_tensor
from ssl_lib.errors import DataError

__all__ = ["WrappedDataset", "as_image_data"]


class WrappedDataset(ImageDataset):
    """An `ImageData` for a map-style torch Dataset whose items are images, or tuples that start with an image.

    An image is a PIL image of any mode, a uint8 tensor (C, H, W), or a uint8 numpy array (H, W) or (H, W, C). Labels
    and class names come from the attributes `targets` and `classes` of the data set, if it has them.

    Args:
        dataset: The data set. Its transform, if any, must return uint8 images.
        mean: Mean of each channel in [0, 1]. Its length is the number of channels: 3 converts gray images to RGB. None
            uses the number of channels of the first image, and ImageNet's mean.
        std: Standard deviation of each channel; None is ImageNet's.

    Raises:
        DataError: The data set is empty, or its first item is not such an image.
        ValueError: The data set has no length, its targets are not one integer per image, or mean and std do not fit.
    """

    def __init__(
        self, dataset: Any, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ValueError(f"{type(dataset).__name__} must be a map-style Dataset, with __len__ and __getitem__")
        if not len(dataset):
            raise DataError(f"{type(dataset).__name__} is empty")
        self.dataset = dataset
        self.channels = len(mean) if mean is not None else _channels(self._image(0))
        self.mean, self.std = checked_statistics(mean, std, self.channels)
        self.class_names = tuple(str(name) for name in getattr(dataset, "classes", ()))
        targets = getattr(dataset, "targets", None)
        self.labels = None if targets is None else torch.as_tensor(targets)
        if self.labels is not None:
            if self.labels.shape != (len(self),) or self.labels.is_floating_point():
                raise ValueError(f"targets must be {len(self)} integers, got {tuple(self.labels.shape)}")
            if len(self.labels) and int(self.labels.min()) < 0:
                raise ValueError(
                    f"targets must not be negative, got {int(self.labels.min())}: use a data set with labels"
                )
            self.labels = self.labels.long()
        self.read(0)  # raises a DataError for an unsupported image before any worker starts

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> Tensor:
        """Returns one image, uint8 (C, H, W). Gray images are expanded to the number of channels of `mean`.

        Raises:
            DataError: The item is not an image of a supported type.
        """
        image = self._image(index)
        if isinstance(image, Image.Image):
            image = to_tensor(image, 1 if self.channels == 1 else 3)
        elif isinstance(image, np.ndarray):
            image = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)
        if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3:
            got = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise DataError(
                f"item {index} of {type(self.dataset).__name__} must be a PIL image or uint8 pixels, got {got}; "
                "remove ToTensor and Normalize from its transform, the view pipeline does both"
            )
        if image.shape[0] not in (1, self.channels):
            raise DataError(
                f"item {index} of {type(self.dataset).__name__} has {image.shape[0]} channels, but mean and std have "
                f"{self.channels}; pass one value per channel to WrappedDataset(dataset, mean, std)"
            )
        return image.expand(self.channels, -1, -1)

    def _image(self, index: int) -> Any:
        item = self.dataset[index]
        return item[0] if isinstance(item, tuple | list) else item


def _channels(image: Any) -> int:
    """Returns the channels of a PIL image (1 or 3), an array (H, W) or (H, W, C), or a tensor (C, H, W)."""
    if isinstance(image, Image.Image):
        return 1 if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16") else 3
    if isinstance(image, np.ndarray) and image.ndim in (2, 3):
        return int(np.atleast_3d(image).shape[2])
    return len(image) if isinstance(image, Tensor) and image.ndim == 3 else 3


def as_image_data(dataset: Any) -> ImageData:
    """Returns an `ImageData` unchanged. Wraps any other data set in a `WrappedDataset` with ImageNet's mean and std."""
    return dataset if isinstance(dataset, ImageData) else WrappedDataset(dataset)
