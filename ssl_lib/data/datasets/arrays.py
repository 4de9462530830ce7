"""Array data sets: images of one size, in memory or memory-mapped, read without worker processes."""

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
_SAMPLE = 2000  # images used to compute mean and std


class ArrayData(ImageDataset):
    """An `ImageData` of uint8 images of one size.

    Args:
        images: A tensor (N, C, H, W), or a numpy array (N, H, W) or (N, H, W, C), which may be memory-mapped.
        labels: Class indices, integers (N,).
        class_names: Names of the classes in the order of their indices.
        mean: Mean of each channel in [0, 1]; None computes it from up to 2,000 evenly spaced images.
        std: Standard deviation of each channel; None computes it from the same images (1 for a constant channel).

    Raises:
        ValueError: The images have another type or shape, or the labels, mean or std do not fit.
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
        self.memory_mapped = isinstance(images, np.memmap)  # then `gather` may wait for the disk
        self.labels = None if labels is None else _checked_labels(labels, len(images), len(class_names))
        self.class_names = tuple(class_names)
        self.channels, self.height, self.width = self.read(0).shape
        if mean is None or std is None:
            computed = self._compute_statistics()
            mean, std = mean or computed[0], std or computed[1]
        self.mean, self.std = checked_statistics(mean, std, self.channels)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> Tensor:
        """Returns one image, uint8 (C, H, W)."""
        return self.gather(torch.tensor([index]))[0]

    def gather(self, indices: Tensor) -> Tensor:
        """Returns copies of the images at `indices` (B,), uint8 (B, C, H, W), in the memory format of the array."""
        rows = self._images[indices.numpy()]  # numpy copies uint8 rows far faster than torch
        images = torch.from_numpy(np.ascontiguousarray(rows))
        return images.permute(0, 3, 1, 2) if self._channels_last else images

    def _compute_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        count = min(len(self), _SAMPLE)
        sample = torch.arange(count) * (len(self) - 1) // max(count - 1, 1)
        histogram = torch.zeros(self.channels, 256, dtype=torch.float64)
        for indices in torch.split(sample, 100):
            for channel, values in enumerate(self.gather(indices).unbind(1)):
                histogram[channel] += torch.bincount(values.flatten(), minlength=256)
        frequency = histogram / histogram.sum(1, keepdim=True)  # (C, 256)
        values = torch.arange(256, dtype=torch.float64) / 255
        mean = frequency @ values
        variance = (frequency * (values - mean[:, None]).square()).sum(1)
        std = torch.where(variance > 0, variance.sqrt(), 1.0)
        return tuple(mean.tolist()), tuple(std.tolist())


def _checked_images(images: Tensor | npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], bool]:
    """Returns the array, gray images as (N, 1, H, W), and whether the channels are the last dimension."""
    if images.dtype not in (torch.uint8, np.uint8):
        raise ValueError(f"images must be uint8 in [0, 255], got {images.dtype}: convert them to uint8")
    shape = tuple(images.shape)
    if isinstance(images, Tensor):
        if len(shape) != 4 or 0 in shape:
            raise ValueError(f"a tensor of images must have shape (N, C, H, W) and must not be empty, got {shape}")
        return images.contiguous().numpy(), False
    if len(shape) not in (3, 4) or 0 in shape or (len(shape) == 4 and shape[3] > 4):
        raise ValueError(
            f"an array of images must have shape (N, H, W) or (N, H, W, C) with C <= 4, not empty, got {shape}"
        )
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
        path: A .npy of uint8 images (N, H, W) or (N, H, W, C); or a .npz with the key `images` and, optionally,
            `labels`, `test_images` and `test_labels`; or a folder written by `ssl-lib pack`.
        labels: A .npy with the class indices of the training images (N,).
        test_path: A .npy of test images, or a .npz with `images` and `labels`.
        test_labels: A .npy with the class indices of the test images.
        mean: Mean of each channel in [0, 1]; None computes it from the training images.
        std: Standard deviation of each channel; None computes it from the training images.
        split: See `Split`; there is no "bank".

    Raises:
        DataError: A file is missing, damaged, pickled, or of another type; or the test images have no labels.
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
        raise DataError(f"{source}: the test images have no labels; set test_labels to a .npy of class indices")
    try:
        return ArrayData(images, classes, names, train.mean, train.std)
    except ValueError as error:
        raise DataError(f"{source}, test split: {error}") from error


def _packed(folder: Path) -> tuple[Path, Path | None, Path | None, Path | None, tuple[str, ...]]:
    """Returns images, labels, test images, test labels and class names of a folder written by `pack_folder`."""
    train, test = (folder / "train" if (folder / "train").is_dir() else folder), folder / "test"
    for part in (train, test):
        if (part / "images.npy.partial").exists():
            raise DataError(f"{part} is not completely packed: run the same `ssl-lib pack` command again to resume")
    files = [part / name for part in (train, test) for name in ("images.npy", "labels.npy")]
    images, labels, test_images, test_labels = (file if file.exists() else None for file in files)
    if images is None:
        raise DataError(
            f"{folder} contains no images.npy: set path to a .npy or .npz file or a folder written by `ssl-lib pack`"
        )
    names = train / "classes.json"
    classes = tuple(json.loads(names.read_text(encoding="utf-8"))) if names.exists() else ()
    return images, labels, test_images, test_labels, classes
