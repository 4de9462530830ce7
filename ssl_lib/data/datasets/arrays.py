"""Array data sets: images of one size, in memory or memory-mapped, read without worker processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_lib.data.base import ImageData, ImageDataset, SkipImage, Split, check_axes, checked_statistics, warn
from ssl_lib.data.io.decode import Decoder
from ssl_lib.data.io.npy import read_array, read_member
from ssl_lib.data.io.packed import packed_folder, source_of
from ssl_lib.data.labels import class_labels
from ssl_lib.errors import DataError
from ssl_lib.registry import DATASETS

__all__ = ["ArrayData", "arrays", "pixel_statistics"]

Statistics = tuple[float, ...] | None
_SAMPLE = 2000  # images used to compute mean and std
_LEVELS = 2**16  # of float values


class ArrayData(ImageDataset):
    """An `ImageData` of images of one size.

    Args:
        images: A tensor (N, C, H, W), or a numpy array (N, H, W) or (N, H, W, C), which may be memory-mapped: uint8, or
            float32 in [0, 1].
        labels: One class per image (N,): integers or texts, see `class_labels`.
        class_names: Names of the classes in the order of their indices.
        mean: Mean of each channel in [0, 1], such as `pixel_statistics` of the training images returns; None if it is
            not known. Then a `Preprocessing` has to be passed with the images.
        std: Standard deviation of each channel; None if it is not known.
        channels: Number of channels, which has to be given if there are more than 4.

    Attributes:
        decoder: How the files were read of which the images are made; None if they are not made of files.

    Raises:
        ValueError: The images have another type or shape, or the labels, mean or std do not fit.
    """

    def __init__(
        self,
        images: Tensor | npt.NDArray[Any],
        labels: Tensor | npt.NDArray[Any] | None = None,
        class_names: tuple[str, ...] = (),
        mean: Statistics = None,
        std: Statistics = None,
        channels: int | None = None,
    ) -> None:
        self._images, self._channels_last = _checked_images(images, channels)
        self.memory_mapped = isinstance(images, np.memmap)  # then `gather` may wait for the disk
        self.decoder: Decoder | None = None
        self.labels, self.class_names = None, tuple(class_names)
        if labels is not None:
            self.labels, self.class_names = class_labels(labels, class_names)
            if len(self.labels) != len(images):
                raise ValueError(
                    f"labels must be {len(images)} integers or texts, one per image, got {len(self.labels)}"
                )
        self.channels, self.height, self.width = self.read(0).shape
        self.mean: Statistics = None
        self.std: Statistics = None
        if mean is not None or std is not None:
            if mean is None or std is None:
                raise ValueError("mean and std belong together: pass both, or neither")
            self.mean, self.std = checked_statistics(mean, std, self.channels)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> Tensor:
        """Returns one image (C, H, W)."""
        return self.gather(torch.tensor([index]))[0]

    def gather(self, indices: Tensor) -> Tensor:
        """Returns copies of the images at `indices` (B,), (B, C, H, W), in the memory format of the array."""
        rows = self._images[indices.numpy()]  # numpy copies uint8 rows far faster than torch
        images = torch.from_numpy(np.ascontiguousarray(rows))
        return images.permute(0, 3, 1, 2) if self._channels_last else images


def pixel_statistics(data: ImageData) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes mean and std of each channel, in [0, 1], from up to 2,000 evenly spaced images.

    Use the training images, and pass the result to all other data sets. The std of a constant channel is 1.

    Args:
        data: The images. Float values are rounded to 16 bits. Images that raise SkipImage are left out.

    Raises:
        DataError: None of the images can be read.
    """
    count = min(len(data), _SAMPLE)
    sample = torch.arange(count) * (len(data) - 1) // max(count - 1, 1)
    histogram = torch.zeros(data.channels, 256, dtype=torch.float64)
    for batch in _batches(data, sample):
        pixels = batch
        if batch.is_floating_point():
            pixels = batch.mul(_LEVELS - 1).round_().to(torch.int32)
            histogram = histogram if histogram.shape[1] == _LEVELS else histogram.new_zeros(data.channels, _LEVELS)
        for channel, values in enumerate(pixels.unbind(1)):
            histogram[channel] += torch.bincount(values.flatten(), minlength=histogram.shape[1])
    if not histogram.any():
        raise DataError(f"none of {count} images can be read, so their mean and std are not known")
    frequency = histogram / histogram.sum(1, keepdim=True)  # (C, levels)
    values = torch.arange(histogram.shape[1], dtype=torch.float64) / (histogram.shape[1] - 1)
    mean = frequency @ values
    variance = (frequency * (values - mean[:, None]).square()).sum(1)
    std = torch.where(variance > 0, variance.sqrt(), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def _batches(data: ImageData, indices: Tensor) -> Iterator[Tensor]:
    for some in torch.split(indices, 100):
        if isinstance(data, ArrayData):
            yield data.gather(some)
            continue
        for index in some.tolist():
            with contextlib.suppress(SkipImage):
                yield data.read(index)[None]


def _checked_images(images: Tensor | npt.NDArray[Any], channels: int | None) -> tuple[npt.NDArray[Any], bool]:
    """Returns the array, gray images as (N, 1, H, W), and whether the channels are the last dimension."""
    shape, is_tensor = tuple(images.shape), isinstance(images, Tensor)
    if len(shape) not in ((4,) if is_tensor else (3, 4)) or 0 in shape:
        expected = "a tensor of images must have shape (N, C, H, W)"
        if not is_tensor:
            expected = "an array of images must have shape (N, H, W) or (N, H, W, C)"
        raise ValueError(f"{expected} and must not be empty, got {shape}")
    _check_range(images)
    if len(shape) == 4:
        check_axes(shape, first=is_tensor, channels=channels)
    elif shape[2] in (3, 4) and shape[1] > 4:
        raise ValueError(
            f"images of shape {shape} would be gray and {shape[2]} pixels wide: write images[None] for one"
        )
    found = 1 if len(shape) == 3 else shape[1 if is_tensor else 3]
    if channels not in (None, found):
        raise ValueError(f"images of shape {shape} have {found} channel{'s' * (found > 1)}, not channels={channels}")
    if isinstance(images, Tensor):
        return images.detach().cpu().contiguous().numpy(), False
    if len(shape) == 3:
        return np.asarray(images)[:, None], False
    return (images if isinstance(images, np.memmap) else np.ascontiguousarray(images)), True


def _check_range(images: Tensor | npt.NDArray[Any]) -> None:
    if images.dtype in (torch.uint8, np.uint8):
        return
    if images.dtype not in (torch.float32, np.float32):
        raise ValueError(f"images must be uint8 in [0, 255] or float32 in [0, 1], got {images.dtype}: convert them")
    some = images[:: max(1, len(images) // _SAMPLE)]
    if not 0 <= some.min() <= some.max() <= 1:
        raise ValueError(f"float images must be in [0, 1], got {some.min():g} to {some.max():g}")


@DATASETS.register("arrays")
def arrays(
    path: str | Path,
    labels: str | Path | None = None,
    test_path: str | Path | None = None,
    test_labels: str | Path | None = None,
    mean: Statistics = None,
    std: Statistics = None,
    channels: int | None = None,
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
        channels: Number of channels, which has to be given if there are more than 4.
        split: See `Split`; there is no "bank".

    Raises:
        DataError: A file is missing, damaged, pickled, or of another type; or the test images have no labels.
    """
    if split == "bank":
        return None
    names: tuple[str, ...] = ()
    if Path(path).expanduser().is_dir():
        path, labels, test_path, test_labels, names = packed_folder(Path(path).expanduser())
    classes = read_array(labels, "labels") if labels else read_member(path, "labels")
    source = source_of(path)
    channels = channels or source.channels
    try:
        train = ArrayData(read_array(path, "images"), classes, names, channels=channels)
        train.decoder = source.decoder
        computed = (mean, std) if mean and std else pixel_statistics(train)
        train.mean, train.std = checked_statistics(mean or computed[0], std or computed[1], train.channels)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    if split == "train":
        return train
    test = _test_split(path, test_path, test_labels, train, names)
    if test is not None:
        test.decoder = source_of(test_path).decoder if test_path else source.decoder
        if None not in (test.decoder, train.decoder) and test.decoder != train.decoder:
            warn(f"{test_path} was packed with another range, depth or bands than {path}: pack both alike")
    return test


def _test_split(
    path: str | Path,
    test_path: str | Path | None,
    test_labels: str | Path | None,
    train: ArrayData,
    names: tuple[str, ...],
) -> ArrayData | None:
    source, prefix = (test_path, "") if test_path else (path, "test_")
    images = read_array(test_path, "images") if test_path else read_member(path, "test_images")
    if images is None:
        return None
    classes = read_array(test_labels, "labels") if test_labels else read_member(source, prefix + "labels")
    if classes is None:
        raise DataError(f"{source}: the test images have no labels; set test_labels to a .npy of class indices")
    try:
        return ArrayData(images, classes, names, train.mean, train.std, train.channels)
    except ValueError as error:
        raise DataError(f"{source}, test split: {error}") from error
