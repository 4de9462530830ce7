"""Items of torch data sets: their images, channels, classes and files, also inside of `Subset` and `ConcatDataset`."""

from __future__ import annotations

import bisect
import itertools
import numbers
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from ssl_lib.data.base import check_axes, warn
from ssl_lib.data.io.pillow import opened
from ssl_lib.data.io.raw import Array, Range
from ssl_lib.data.io.stored import stored_pixels
from ssl_lib.errors import DataError

__all__ = ["FileItems", "Picture", "channels_of", "classes_of", "file_of", "image_of", "source_of"]

Picture: TypeAlias = Image.Image | bytes
"""A PIL image, or the content of an image file."""


class FileItems(ABC):
    """A torch data set that has the files of its images."""

    @abstractmethod
    def file(self, index: int) -> str | bytes | None:
        """Returns the path of an image's file, or its content; None if there is none."""


def image_of(item: Any, limits: Range, channels: int | None) -> Picture | Array:
    """Returns the image of an item; tensors and arrays as (H, W, C).

    Args:
        item: An image, or a tuple that starts with one.
        limits: See `Reading.range`; tensors and arrays of other types than uint8 and uint16 need one.
        channels: Number of channels, which more than four need.

    Raises:
        DataError: The item is no image, or has another type or shape. The message does not name the item.
    """
    image = item[0] if isinstance(item, tuple | list) and item else item
    if isinstance(image, Picture):
        return image
    is_tensor, found = isinstance(image, Tensor), type(image).__name__
    if hasattr(image, "dtype"):
        found = f"{image.dtype} {tuple(image.shape)}"
    try:
        array = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
    except (TypeError, RuntimeError) as error:  # bfloat16, sparse or meta
        raise DataError(f"must be a PIL image or uint8 pixels, got {found}: {error}") from error
    known = isinstance(array, np.ndarray) and array.ndim in ((3,) if is_tensor else (2, 3))
    if not known or (array.dtype not in (np.uint8, np.uint16) and limits == "auto"):
        raise DataError(
            f"must be a PIL image or uint8 pixels, got {found}; remove ToTensor and Normalize from its transform, the "
            "view pipeline does both"
        )
    try:
        check_axes(array.shape, first=is_tensor, channels=channels)
    except ValueError as error:
        raise DataError(str(error)) from error
    return np.ascontiguousarray(array.transpose(1, 2, 0)) if is_tensor else np.ascontiguousarray(np.atleast_3d(array))


def channels_of(image: Picture | Array, max_pixels: int) -> int:
    """Returns the channels of an image: 1 or 3 of pictures, or those of an array (H, W, C)."""
    if isinstance(image, bytes):
        try:
            with opened(image, max_pixels) as picture:
                return channels_of(picture, max_pixels)
        except UnidentifiedImageError:  # a .npy file, or more bands than Pillow reads
            pixels, alpha = stored_pixels(image, max_pixels)
            return int(pixels.shape[2]) - alpha
    if isinstance(image, Image.Image):
        return 1 if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16") else 3
    return int(image.shape[2])


def file_of(dataset: Any, index: int) -> str | bytes | None:
    """The content of an item's file, or its path, as in the `samples` of torchvision's folders; None if not known."""
    base, place = source_of(dataset, index)
    if isinstance(base, FileItems):
        return base.file(place)
    samples = getattr(base, "samples", None)
    if isinstance(samples, list) and len(samples) == len(base) and isinstance(samples[place], tuple):
        path = samples[place][0]
        return str(path) if isinstance(path, str | Path) else None
    return None


def classes_of(dataset: Any) -> tuple[Any, tuple[str, ...]]:
    """Returns the class of each item, or None, and the names of the classes, also inside of `Subset` and others."""
    names = getattr(dataset, "classes", None) or getattr(dataset, "class_names", None) or ()
    targets, classes = getattr(dataset, "targets", None), tuple(map(str, names))
    if not isinstance(dataset, Subset | ConcatDataset):
        return _labels_of(dataset) if targets is None else targets, classes
    if targets is not None:
        return targets, classes
    if isinstance(dataset, Subset):
        targets, classes = classes_of(dataset.dataset)
        values = targets.tolist() if hasattr(targets, "tolist") else targets
        return None if values is None else [values[int(index)] for index in dataset.indices], classes
    parts = [classes_of(part) for part in dataset.datasets]
    if all(known is not None and names == parts[0][1] for known, names in parts):
        lists = [known.tolist() if hasattr(known, "tolist") else known for known, _ in parts]
        return list(itertools.chain(*lists)), parts[0][1]
    if any(known is not None for known, _ in parts):
        warn(
            "the parts of a ConcatDataset have other classes, or some have no targets, so its images have no labels: "
            "set its attribute targets to one class per image, and classes to their names"
        )
    return None, ()


def _labels_of(dataset: Any) -> list[Any] | None:
    """Returns the attribute `labels` of a data set without `targets`; None if it is not one class per item."""
    labels = getattr(dataset, "labels", None)
    if labels is None:
        return None
    values = labels.tolist() if hasattr(labels, "tolist") else labels
    classes = isinstance(values, list | tuple) and all(isinstance(value, str | numbers.Integral) for value in values)
    if classes and len(values) == len(dataset) and not any(v < 0 for v in values if not isinstance(v, str)):
        return list(values)
    warn(
        f"the labels of {type(dataset).__name__} are not one class per item, so its images have no labels: set its "
        "attribute targets to one class per image, if they have classes"
    )
    return None


def source_of(dataset: Any, index: int) -> tuple[Any, int]:
    """Returns the data set inside of `Subset` and `ConcatDataset` that has an item, and the item's position in it."""
    if index < 0:
        return source_of(dataset, index + len(dataset))
    if isinstance(dataset, Subset):
        return source_of(dataset.dataset, int(dataset.indices[index]))
    if isinstance(dataset, ConcatDataset):
        part = bisect.bisect_right(dataset.cumulative_sizes, index)
        return source_of(dataset.datasets[part], index - (dataset.cumulative_sizes[part - 1] if part else 0))
    return dataset, index
