"""Data set interface: uint8 images by index, optional labels, and mean and std for normalization."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from torch import Tensor
from torch.utils.data import Dataset

from ssl_lib.distributed import rank
from ssl_lib.errors import DataError
from ssl_lib.utils.warn_once import warn_once

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "DataWarning",
    "ImageData",
    "ImageDataset",
    "SkipImage",
    "Split",
    "check_axes",
    "checked_statistics",
    "image_name",
    "imagenet_statistics",
    "warn",
]

Split: TypeAlias = Literal["train", "bank", "test"]
"""Split of a data set: "train", the training images (labels may be None); "bank", labeled training images for kNN and
probes, requested only if the "train" images have no labels; "test", labeled test images. A factory in `DATASETS`
returns None for a split that it does not have."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@runtime_checkable
class ImageData(Protocol):
    """Interface of a data set. Any object with these members qualifies; no base class is needed."""

    @property
    def mean(self) -> tuple[float, ...] | None:
        """Mean of each channel, in [0, 1]; None if it is not known."""

    @property
    def std(self) -> tuple[float, ...] | None:
        """Standard deviation of each channel, in the units of `mean`; None if it is not known."""

    @property
    def labels(self) -> Tensor | None:
        """Class indices, int64 (N,), or None."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their indices; empty if unknown."""

    @property
    def channels(self) -> int:
        """Number of channels of every image."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, index: int) -> Tensor:
        """Returns one image (C, H, W), uint8, or float32 in [0, 1].

        Raises:
            DataError: The image cannot be read.
            SkipImage: The image cannot be read and should be left out.
        """


class ImageDataset(Dataset[tuple[Tensor, int] | Tensor]):
    """Base class of the `ImageData` classes in this library: also a torch Dataset of (image, label), or of images."""

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    labels: Tensor | None
    class_names: tuple[str, ...]
    channels: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Tensor:
        """Returns one image (C, H, W), uint8, or float32 in [0, 1]."""

    def name(self, index: int) -> str:
        """Returns the name of an image in messages and tables; the index by default."""
        return str(index)

    def key(self, index: int) -> str:
        """Returns a name of an image that does not change if all data are moved; by default `name`."""
        return self.name(index)

    def place(self, index: int) -> Hashable | None:
        """Returns where an image is stored, equal for the same image of two data sets; None if it is not known."""
        return None

    def file_size(self, index: int) -> int:
        """Returns the size of an image's file in bytes; 0 if it has none."""
        return 0

    def content(self, index: int) -> bytes | None:
        """Returns the content of an image's file; None if there is none, or if it is far away.

        Raises:
            OSError: The file cannot be read.
        """
        return None

    def prepare(self, indices: Sequence[int]) -> None:
        """Called by a loader with the indices of the next batch, so that a data set can fetch these images together."""

    def __getitem__(self, index: int) -> tuple[Tensor, int] | Tensor:
        """Returns the uint8 image (C, H, W) at `index`; with its class index if the data set has labels."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} images")
        image = self.read(index % len(self))
        return image if self.labels is None else (image, int(self.labels[index]))

    def __repr__(self) -> str:
        classes = (
            "no labels" if self.labels is None else f"{len(self.class_names) or len(self.labels.unique())} classes"
        )
        channels = f"{self.channels} channel{'' if self.channels == 1 else 's'}"
        return f"{type(self).__name__}({len(self):,} images of {channels}, {classes})"


def image_name(data: ImageData, index: int) -> str:
    """Returns the name of an image: its file relative to the folder, or its index if there is no file."""
    return data.name(index) if isinstance(data, ImageDataset) else str(index)


def checked_statistics(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Validates mean and standard deviation; None is replaced by ImageNet's values (see `imagenet_statistics`).

    Raises:
        ValueError: There is not one value per channel, or a value is out of range for pixels in [0, 1].
    """
    default = imagenet_statistics(channels)
    mean, std = mean or default[0], std or default[1]
    if not len(mean) == len(std) == channels:
        raise ValueError(f"mean {mean} and std {std} need one value for each of {channels} channel(s)")
    if not all(0 <= value <= 1 for value in mean) or not all(0 < value <= 1 for value in std):
        raise ValueError(
            f"mean {mean} and std {std} must be in [0, 1], std above 0: divide the statistics of uint8 pixels by 255"
        )
    return tuple(mean), tuple(std)


def check_axes(shape: tuple[int, ...], first: bool, channels: int | None = None) -> None:
    """Checks that the channels of an array of images are where they are expected.

    Args:
        shape: Shape of one image, (C, H, W) or (H, W, C), or of a batch of them; without C for gray arrays.
        first: Whether the channels come first.
        channels: Number of channels, if it is known. More than 4 have to be given.

    Raises:
        ValueError: The shape has more than 4 channels that are not given. The message contains the transposition.
    """
    if len(shape) < 3:
        return
    count, other = (shape[-3], shape[-1]) if first else (shape[-1], shape[-3])
    if count <= 4 or count == channels:
        return
    order = {(3, True): "permute(2, 0, 1)", (3, False): "transpose(1, 2, 0)"}
    order |= {(4, True): "permute(0, 3, 1, 2)", (4, False): "transpose(0, 2, 3, 1)"}
    expected = "(C, H, W)" if first else "(H, W, C)"
    fix = f"if the channels are {'last' if first else 'first'}, write images.{order[len(shape), first]}; "
    raise ValueError(
        f"images must have shape {expected}, and {shape} would have {count} channels: {fix if other <= 4 else ''}"
        f"if it has, pass channels={count}"
    )


class DataWarning(UserWarning):
    """Something about the images of a data set that the user should know, such as files that are left out."""


def warn(message: str) -> None:
    """Issues a `DataWarning` in the first process, once, though every split of a data set looks at the same files."""
    if rank() == 0:
        warn_once(message, DataWarning)


class SkipImage(DataError):
    """Raised by `ImageData.read` for an image to leave out. A training loader replaces it with the next image."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.args[1]}"


def imagenet_statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns ImageNet's mean and standard deviation; their averages over RGB if `channels` is not 3."""
    if channels == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    return (sum(IMAGENET_MEAN) / 3,) * channels, (sum(IMAGENET_STD) / 3,) * channels
