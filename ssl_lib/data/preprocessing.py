"""Evaluation preprocessing: turns raw images into the input of a frozen network, and nothing else does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from ssl_lib.data.base import ImageData, checked_statistics
from ssl_lib.data.center_crop import resize_and_crop, usual_resize
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.data.io.decode import Decoder, Depth, OnError, Reading
from ssl_lib.data.io.raw import Bands, Range
from ssl_lib.views._checks import check_unit_range
from ssl_lib.views.color import normalize, to_floats

__all__ = ["Picture", "Preprocessing", "chosen_preprocessing", "resize_and_crop", "usual_resize"]

Picture: TypeAlias = Image.Image | str | Path
"""A PIL image, or the path of an image file."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resizes (bicubic, antialiased), center-crops and normalizes images, as in evaluation.

    A worker calls `arrange` on each image, the device calls the object on a batch of arranged images. The attributes
    are stored in checkpoints and exports.

    Attributes:
        size: Side of the center crop in pixels.
        resize: Length of the shorter side after resizing, in pixels, at least `size`.
        mean: Mean of each channel in [0, 1].
        std: Standard deviation of each channel.
        range: How files are read, see `Reading`; as all that follows.
        depth: 8 or 16 bits.
        bands: The bands that are used.
    """

    kind: ClassVar[str] = "image"
    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    range: Range = "auto"
    depth: Depth = 8
    bands: Bands = None

    def __post_init__(self) -> None:
        for name in ("mean", "std", "range", "bands"):  # JSON and YAML files contain lists
            if isinstance(value := getattr(self, name), list | tuple):
                object.__setattr__(self, name, tuple(value))
        if not 1 <= self.size <= self.resize or not len(self.mean) == len(self.std) >= 1:
            raise ValueError(f"Preprocessing needs 1 <= size <= resize and one mean and std per channel, got {self}")
        checked_statistics(self.mean, self.std, self.channels)
        Decoder(range=self.range, depth=self.depth, bands=self.bands)  # raises for wrong values
        if isinstance(self.bands, tuple) and len(self.bands) != self.channels:
            raise ValueError(f"bands {list(self.bands)} need one mean and std each, got {self.channels}")

    @classmethod
    def of(cls, data: ImageData, size: int | None = None, resize: int | None = None) -> Preprocessing:
        """Creates the preprocessing of a data set with its mean and std.

        Args:
            data: The data set.
            size: Side of the images in pixels; None is the side of the images of an `ArrayData`.
            resize: Length of the shorter side after resizing; None is `size` for an `ArrayData` of this size, and
                256/224 of `size` otherwise.

        Raises:
            ValueError: The data set has no mean and std, or `size` is None and its images are not square, or of
                various sizes.
        """
        if data.mean is None or data.std is None:
            raise ValueError(
                f"{type(data).__name__} has no mean and std: pass the preprocessing of the training images, or create "
                "it with mean and std, such as those that `pixel_statistics(training_images)` returns"
            )
        sides = (data.height, data.width) if isinstance(data, ArrayData) else None
        if size is None:
            if sides is None or sides[0] != sides[1]:
                found = "images of various sizes" if sides is None else f"images of {sides[0]} x {sides[1]}"
                raise ValueError(
                    f"{type(data).__name__} may contain {found}: set size in pixels, such as "
                    "extract_features(encoder, data, size=224)"
                )
            size = sides[0]
        usual = size if sides == (size, size) else usual_resize(size)
        decoder = getattr(data, "decoder", None) or Decoder()
        reading = {name: getattr(decoder, name) for name in ("range", "depth", "bands")}
        resize = usual if resize is None else resize
        return cls(size=size, resize=resize, mean=data.mean, std=data.std, **reading)

    def at(self, size: int) -> Preprocessing:
        """Returns a copy for another size, which resizes the shorter side to 256/224 of the size."""
        return self if size == self.size else dataclasses.replace(self, size=size, resize=usual_resize(size))

    def plain(self) -> dict[str, Any]:
        """The attributes as JSON types, for checkpoints, exports and tables; the constructor reads them back."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @property
    def channels(self) -> int:
        """Number of channels of the output."""
        return len(self.mean)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an arranged image and of the network's input: (C, size, size)."""
        return self.channels, self.size, self.size

    @property
    def reading(self) -> Reading:
        """How image files are read for this preprocessing."""
        return Reading(range=self.range, depth=self.depth, bands=self.bands)

    def decoder(self, on_error: OnError = "raise") -> Decoder:
        """Returns the decoder of image files for this preprocessing."""
        return Decoder(channels=self.channels, on_error=on_error, **self.reading)

    @property
    def reads_pictures(self) -> bool:
        """Whether images are read as 8-bit gray or RGB, as other libraries do: no range, depth or bands are set."""
        return self.reading == Reading(range="auto", depth=8, bands=None) and self.reads_files

    @property
    def reads_files(self) -> bool:
        """Whether files can be read: arrays of other than 1 or 3 channels have no files, unless bands are set."""
        return self.bands is not None or self.channels in (1, 3)

    def arrange(self, item: Tensor | Picture) -> Tensor:
        """Resizes and crops one image, or a batch of images of one size, in a worker process.

        Args:
            item: uint8, or float32 in [0, 1], (..., C, H, W), where gray images (C = 1) are expanded if necessary; or a
                PIL image of any mode and size, or the path of a file, rotated upright by its EXIF orientation.

        Returns:
            (..., C, size, size) of the same type; of PIL images and files uint8, or float32 at depth 16.

        Raises:
            ValueError: The image has another type, shape or number of channels, or float values outside of [0, 1].
            DataError: The file cannot be read.
        """
        if isinstance(item, Image.Image):
            item = self.decoder().picture(item)
        elif isinstance(item, str | Path):
            item = self.decoder().read(str(item), str(item))
        self._check(item, item.ndim in (3, 4))
        expanded = item.expand(*item.shape[:-3], self.channels, -1, -1)
        return resize_and_crop(expanded, self.size, self.resize)

    def __call__(self, raw: Tensor | Picture | Sequence[Picture], device: torch.device | None = None) -> Tensor:
        """Normalizes a batch.

        Args:
            raw: Arranged images, uint8 or float32 in [0, 1], (N, C, size, size). Images of another size, PIL images and
                the paths of files are arranged first.
            device: Device of the result; None keeps the device.

        Returns:
            float32 (N, C, size, size).

        Raises:
            ValueError: The images have another type, shape or number of channels, or float values outside of [0, 1].
            DataError: A file cannot be read.
        """
        if not isinstance(raw, Tensor):
            pictures = [raw] if isinstance(raw, Picture) else list(raw)
            if not pictures or not all(isinstance(picture, Picture) for picture in pictures):
                types = ", ".join(sorted({type(picture).__name__ for picture in pictures})) or "none"
                raise ValueError(f"images must be uint8 (N, C, H, W), or at least one PIL image or path, got {types}")
            raw = torch.stack([self.arrange(picture) for picture in pictures])
        else:
            self._check(raw, raw.ndim == 4)
            raw = raw if raw.shape[1:] == self.shape else self.arrange(raw)
        return normalize(to_floats(raw.to(device)), self.mean, self.std)

    def picture(self, raw: Tensor) -> Tensor:
        """Converts a raw image (C, H, W) for display: uint8 (1 or 3, H, W), of other bands the first three or one."""
        shown = raw if raw.shape[0] in (1, 3) else raw[:3] if raw.shape[0] > 3 else raw[:1]
        return shown if shown.dtype == torch.uint8 else shown.mul(255).round().to(torch.uint8)

    def _check(self, images: Tensor, known: bool) -> None:
        known = known and images.dtype in (torch.uint8, torch.float32) and 0 not in images.shape[-2:]
        if not known or images.shape[-3] not in (1, self.channels):
            got = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            raise ValueError(f"images must be uint8 (N, {self.channels}, H, W) or PIL images, got {got}")
        check_unit_range(images)


def chosen_preprocessing(
    preprocessing: Preprocessing | None, data: ImageData, size: int | None, resize: int | None
) -> Preprocessing:
    """Returns the given preprocessing, or that of the data.

    Raises:
        ValueError: A size is given, too; or see `Preprocessing.of`.
    """
    if preprocessing is None:
        return Preprocessing.of(data, size, resize)
    if size is not None or resize is not None:
        raise ValueError("give preprocessing or size and resize, not both; preprocessing.at(size) changes its size")
    return preprocessing
