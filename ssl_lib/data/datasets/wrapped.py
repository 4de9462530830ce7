"""Any torch Dataset of images as an `ImageData`."""

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
    """An `ImageData` made of a torch Dataset that has a length and returns an image, or a tuple that begins with one.

    An image is a PIL image of any mode, uint8 (C, H, W) as a tensor, or uint8 (H, W) or (H, W, C) as a numpy array.
    The labels are those of the data set's `targets`, where it has them, the class names those of its `classes`.

    Args:
        dataset: The data set; its own transform, if any, must leave the images uint8.
        mean: Mean of each channel in [0, 1]. Its length is the number of channels: 3 turns gray images into RGB. None
            takes the channels of the first image, and ImageNet's statistics.
        std: Standard deviation of each channel; None likewise.

    Raises:
        DataError: The data set is empty, or its first item is not an image of these types.
        ValueError: It has no length, its targets are not one integer per image, or the statistics do not fit.
    """

    def __init__(
        self, dataset: Any, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ValueError(f"{type(dataset).__name__} must have a length and items by index (a map-style Dataset)")
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
                raise ValueError(f"targets must not be negative, got {int(self.labels.min())}: give a set with labels")
            self.labels = self.labels.long()
        self.read(0)  # what is no image is refused before any worker starts

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> Tensor:
        """Returns one image, uint8 (C, H, W); gray is repeated where `mean` has three channels.

        Raises:
            DataError: The item is not an image of the types above.
        """
        image = self._image(index)
        if isinstance(image, Image.Image):
            image = to_tensor(image, 1 if self.channels == 1 else 3)
        elif isinstance(image, np.ndarray):
            image = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)
        if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3:
            found = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise DataError(
                f"item {index} of {type(self.dataset).__name__} must hold a PIL image or uint8 pixels, got {found}; "
                "leave ToTensor and Normalize out of its transform, the views do that"
            )
        if image.shape[0] not in (1, self.channels):
            raise DataError(
                f"item {index} of {type(self.dataset).__name__} has {image.shape[0]} channels where mean and std have "
                f"{self.channels}; WrappedDataset(dataset, mean, std) takes one value per channel"
            )
        return image.expand(self.channels, -1, -1)

    def _image(self, index: int) -> Any:
        item = self.dataset[index]
        return item[0] if isinstance(item, tuple | list) else item


def _channels(image: Any) -> int:
    """Of a PIL image (gray or RGB), an array (H, W) or (H, W, C), or a tensor (C, H, W)."""
    if isinstance(image, Image.Image):
        return 1 if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16") else 3
    if isinstance(image, np.ndarray) and image.ndim in (2, 3):
        return int(np.atleast_3d(image).shape[2])
    return len(image) if isinstance(image, Tensor) and image.ndim == 3 else 3


def as_image_data(dataset: Any) -> ImageData:
    """Returns an `ImageData` as it is, and any other data set as a `WrappedDataset` with ImageNet's statistics."""
    return dataset if isinstance(dataset, ImageData) else WrappedDataset(dataset)
