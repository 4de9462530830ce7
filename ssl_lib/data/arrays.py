"""Images of one size in one array, in memory or memory-mapped: a batch is one gather, no worker processes."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_lib.data.base import ImageData, ImageDataset, Split, checked_statistics
from ssl_lib.errors import DataError
from ssl_lib.registry import DATASETS

__all__ = ["ArrayData", "arrays"]

Statistics = tuple[float, ...] | None
_SAMPLE = 2000  # images that the statistics are measured on
_READ_ERRORS = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


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
    """The images as they lie, or grey ones as (N, 1, H, W); and whether the channels come last."""
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
        path: A .npy of uint8 images (N, H, W) or (N, H, W, C), or a .npz with the keys `images` and, as there are,
            `labels`, `test_images` and `test_labels`.
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
    classes = _array(labels, "labels") if labels else _member(path, "labels")
    try:
        train = ArrayData(_array(path, "images"), classes, (), mean, std)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    if split == "train":
        return train
    source, prefix = (test_path, "") if test_path else (path, "test_")
    images = _array(test_path, "images") if test_path else _member(path, "test_images")
    if images is None:
        return None
    classes = _array(test_labels, "labels") if test_labels else _member(source, prefix + "labels")
    if classes is None:
        raise DataError(f"{source}: the test images have no labels; give test_labels, a .npy of class indices")
    try:
        return ArrayData(images, classes, (), train.mean, train.std)
    except ValueError as error:
        raise DataError(f"{source}, test split: {error}") from error


def _array(path: str | Path, key: str) -> npt.NDArray[Any]:
    """The array of a .npy, or a member of a .npz that must be there."""
    if Path(path).suffix != ".npy":
        array = _member(path, key)
        if array is None:
            raise DataError(f"{path}: no array named {key!r} in it; save it with np.savez(path, {key}=...)")
        return array
    try:
        return np.lib.format.open_memmap(_file(path), mode="r")
    except _READ_ERRORS as error:
        raise DataError(f"{path}: not a plain array that can be read safely ({error})") from error


def _member(path: str | Path, key: str) -> npt.NDArray[Any] | None:
    """A member of a .npz; None where there is none of that name, or the file is a .npy."""
    path = _file(path)
    if path.suffix not in (".npz", ".npy"):
        raise DataError(f"{path}: not a .npy or .npz file")
    try:
        return _npz_member(path, key) if path.suffix == ".npz" else None
    except _READ_ERRORS as error:
        raise DataError(f"{path}: not a plain array that can be read safely ({error})") from error


def _file(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"{path.absolute()}: no such file (a .npy or .npz was looked for)")
    return path


def _npz_member(path: Path, key: str) -> npt.NDArray[Any] | None:
    with zipfile.ZipFile(path) as archive:
        if f"{key}.npy" not in archive.namelist():
            return None
        member = archive.getinfo(f"{key}.npy")
    if member.compress_type != zipfile.ZIP_STORED:
        with np.load(path, allow_pickle=False) as arrays_of_file:
            return np.asarray(arrays_of_file[key])
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)  # a local file header: 30 bytes, the last 4 the lengths of what follows
        name_length, extra_length = np.frombuffer(file.read(4), "<u2").tolist()
        file.seek(name_length + extra_length, 1)
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = header(file)
        if dtype.hasobject:
            raise ValueError(f"{key} holds Python objects")
        if not math.prod(shape):
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran_order else "C")
