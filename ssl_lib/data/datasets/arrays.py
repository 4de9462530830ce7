"""Images of one size in one array, in memory or memory-mapped: a batch is one gather, no worker processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_lib.data.base import ImageData, ImageDataset, Split, checked_statistics
from ssl_lib.data.io.npy import read_array, read_member
from ssl_lib.errors import DataError
from ssl_lib.registry import DATASETS

__all__ = ["ArrayData", "arrays"]

Statistics = tuple[float, ...] | None
_SAMPLE = 2000  # images that the statistics are measured on


class ArrayData(ImageDataset):
    """An `ImageData` of uint8 images of one size.

    Args:
        images: A tensor (N, C, H, W), or a numpy array (N, H, W) or (N, H, W, C), which may be memory-mapped.
        labels: Class indices, integers (N,).
        class_names: Names of the classes in the order of their indices.
        mean: Mean of each channel in [0, 1]; None measures it on up to 2,000 evenly spaced images.
        std: Standard deviation of each channel; None measures it likewise (1 for a channel without variation).

    Raises:
        ValueError: An array of another type or shape, or labels or statistics that do not fit it.
    """

    def __init__(
        self,
        images: Tensor | npt.NDArray[np.uint8],
        labels: Tensor | npt.NDArray[Any] | None = None,
        class_names: tuple[str, ...] = (),
        mean: Statistics = None,
        std: Statistics = None,
    ) -> None:
        self._images, self._channels_last = _checked_images(images)
        self.memory_mapped = isinstance(images, np.memmap)  # a gather may have to wait for the disk
        self.labels = None if labels is None else _checked_labels(labels, len(images), len(class_names))
        self.class_names = tuple(class_names)
        self.channels, self.height, self.width = self.read(0).shape
        if mean is None or std is None:
            measured = self._measure()
            mean, std = mean or measured[0], std or measured[1]
        self.mean, self.std = checked_statistics(mean, std, self.channels)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> Tensor:
        """Returns one image, uint8 (C, H, W)."""
        return self.gather(torch.tensor([index]))[0]

    def gather(self, indices: Tensor) -> Tensor:
        """Returns the images at `indices` (B,), uint8 (B, C, H, W), in memory of their own: channels_last as given."""
        rows = self._images[indices.numpy()]  # numpy copies rows of bytes far faster than torch
        images = torch.from_numpy(np.ascontiguousarray(rows))
        return images.permute(0, 3, 1, 2) if self._channels_last else images

    def _measure(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        count = min(len(self), _SAMPLE)
        sample = torch.arange(count) * (len(self) - 1) // max(count - 1, 1)
        histogram = torch.zeros(self.channels, 256, dtype=torch.float64)
        for indices in torch.split(sample, 100):
            for channel, values in enumerate(self.gather(indices).unbind(1)):
                histogram[channel] += torch.bincount(values.flatten(), minlength=256)
        share = histogram / histogram.sum(1, keepdim=True)  # (C, 256)
        values = torch.arange(256, dtype=torch.float64) / 255
        mean = share @ values
        variance = (share * (values - mean[:, None]).square()).sum(1)
        std = torch.where(variance > 0, variance.sqrt(), 1.0)
        return tuple(mean.tolist()), tuple(std.tolist())


def _checked_images(images: Tensor | npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], bool]:
    """The images as they lie, or gray ones as (N, 1, H, W); and whether the channels come last."""
    if images.dtype not in (torch.uint8, np.uint8):
        raise ValueError(f"images must be uint8 in [0, 255], got {images.dtype}: convert them first")
    shape = tuple(images.shape)
    if isinstance(images, Tensor):
        if len(shape) != 4 or 0 in shape:
            raise ValueError(f"a tensor of images must be (N, C, H, W) and not empty, got {shape}")
        return images.contiguous().numpy(), False
    if len(shape) not in (3, 4) or 0 in shape or (len(shape) == 4 and shape[3] > 4):
        raise ValueError(f"an array of images must be (N, H, W) or (N, H, W, C), C at most 4, not empty; got {shape}")
    if len(shape) == 3:
        return np.asarray(images)[:, None], False
    return (images if isinstance(images, np.memmap) else np.ascontiguousarray(images)), True


def _checked_labels(labels: Tensor | npt.NDArray[Any], count: int, classes: int) -> Tensor:
    array = np.asarray(labels)
    if not np.issubdtype(array.dtype, np.integer) or array.shape != (count,):
        raise ValueError(f"labels must be {count} integers, one per image, got {array.dtype} {array.shape}")
    if array.min() < 0 or (classes and array.max() >= classes):
        bound = f" and below the number of classes, {classes}" if classes else ""
        raise ValueError(f"labels must not be negative{bound}, got {array.min()} to {array.max()}")
    return torch.from_numpy(array.astype(np.int64))


@DATASETS.register("arrays")
def arrays(
    path: str | Path,
    labels: str | Path | None = None,
    test_path: str | Path | None = None,
    test_labels: str | Path | None = None,
    mean: Statistics = None,
    std: Statistics = None,
    split: Split = "train",
) -> ImageData | None:
    """Images from .npy or .npz files, memory-mapped (members of a compressed .npz are loaded instead).

    Args:
        path: A .npy of uint8 images (N, H, W) or (N, H, W, C); or a .npz with the keys `images` and, as there are,
            `labels`, `test_images` and `test_labels`; or a folder that `ssl-lib pack` wrote.
        labels: A .npy of the training images' class indices (N,).
        test_path: A .npy of test images, or a .npz with `images` and `labels`.
        test_labels: A .npy of the test images' class indices.
        mean: Mean per channel in [0, 1]; None measures it on the training images.
        std: Standard deviation per channel; None measures it on the training images.
        split: See `Split`; there is no "bank".

    Raises:
        DataError: A file is missing, damaged, pickled, or not of the types above; test images have no labels.
    """
    if split == "bank":
        return None
    names: tuple[str, ...] = ()
    if Path(path).expanduser().is_dir():
        path, labels, test_path, test_labels, names = _packed(Path(path).expanduser())
    classes = read_array(labels, "labels") if labels else read_member(path, "labels")
    try:
        train = ArrayData(read_array(path, "images"), classes, names, mean, std)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    if split == "train":
        return train
    source, prefix = (test_path, "") if test_path else (path, "test_")
    images = read_array(test_path, "images") if test_path else read_member(path, "test_images")
    if images is None:
        return None
    classes = read_array(test_labels, "labels") if test_labels else read_member(source, prefix + "labels")
    if classes is None:
        raise DataError(f"{source}: the test images have no labels; give test_labels, a .npy of class indices")
    try:
        return ArrayData(images, classes, names, train.mean, train.std)
    except ValueError as error:
        raise DataError(f"{source}, test split: {error}") from error


def _packed(folder: Path) -> tuple[Path, Path | None, Path | None, Path | None, tuple[str, ...]]:
    """Images, labels, test images, test labels and class names of a folder that `pack_folder` wrote."""
    train, test = (folder / "train" if (folder / "train").is_dir() else folder), folder / "test"
    for part in (train, test):
        if (part / "images.npy.partial").exists():
            raise DataError(f"{part} is not packed to its end: go on with the same `ssl-lib pack` command")
    files = [part / name for part in (train, test) for name in ("images.npy", "labels.npy")]
    images, labels, test_images, test_labels = (file if file.exists() else None for file in files)
    if images is None:
        raise DataError(f"{folder} holds no images.npy: give a .npy or .npz file, or a folder of `ssl-lib pack`")
    names = train / "classes.json"
    classes = tuple(json.loads(names.read_text(encoding="utf-8"))) if names.exists() else ()
    return images, labels, test_images, test_labels, classes
