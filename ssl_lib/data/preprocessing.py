"""Evaluation preprocessing: resizes, center-crops and normalizes images for a trained backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ssl_lib.data.base import ImageData
from ssl_lib.data.datasets.arrays import ArrayData
from ssl_lib.data.io.decode import to_tensor
from ssl_lib.views.color import normalize

__all__ = ["Preprocessing", "resize_and_crop", "usual_resize"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resizes (bicubic, antialiased), center-crops and normalizes images, as in evaluation.

    Attributes:
        size: Side of the center crop in pixels.
        resize: Length of the shorter side after resizing, in pixels, at least `size`.
        mean: Mean of each channel in [0, 1].
        std: Standard deviation of each channel.
    """

    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))  # JSON and YAML files contain lists
        object.__setattr__(self, "std", tuple(self.std))
        if not 1 <= self.size <= self.resize or not len(self.mean) == len(self.std) >= 1:
            raise ValueError(f"Preprocessing needs 1 <= size <= resize and one mean and std per channel, got {self}")

    @classmethod
    def of(cls, data: ImageData, size: int) -> Preprocessing:
        """Creates the preprocessing of `evaluation_batches` for a data set, with its mean and std."""
        unchanged = isinstance(data, ArrayData) and (data.height, data.width) == (size, size)
        resize = size if unchanged else usual_resize(size)
        return cls(size=size, resize=resize, mean=data.mean, std=data.std)

    def at(self, size: int) -> Preprocessing:
        """Returns a copy for another size, which resizes the shorter side to 256/224 of the size."""
        return self if size == self.size else dataclasses.replace(self, size=size, resize=usual_resize(size))

    @property
    def channels(self) -> int:
        """Number of channels of the output."""
        return len(self.mean)

    def __call__(
        self, images: Tensor | Image.Image | Sequence[Image.Image], device: torch.device | None = None
    ) -> Tensor:
        """Preprocesses a batch.

        Args:
            images: uint8 (N, C, H, W), where gray images (C = 1) are expanded to three channels if necessary; or PIL
                images of any mode and size, rotated upright by their EXIF orientation.
            device: Device of the result; None keeps the device.

        Returns:
            float32 (N, C, size, size).

        Raises:
            ValueError: The images have another type or shape, or another number of channels.
        """
        if isinstance(images, Tensor):
            batch = self._resized(images)
        else:
            pictures = [images] if isinstance(images, Image.Image) else list(images)
            if not pictures or not all(isinstance(picture, Image.Image) for picture in pictures):
                types = ", ".join(sorted({type(picture).__name__ for picture in pictures})) or "none"
                raise ValueError(f"images must be uint8 (N, C, H, W) or at least one PIL image, got {types}")
            upright = (to_tensor(ImageOps.exif_transpose(picture), self.channels) for picture in pictures)
            batch = torch.cat([self._resized(picture.unsqueeze(0)) for picture in upright])
        return normalize(batch.to(device).float() / 255, self.mean, self.std)

    def _resized(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, self.channels):
            got = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            raise ValueError(f"images must be uint8 (N, {self.channels}, H, W) or PIL images, got {got}")
        return resize_and_crop(images.expand(-1, self.channels, -1, -1), self.size, self.resize)


def resize_and_crop(images: Tensor, size: int, shorter_side: int | None = None) -> Tensor:
    """Resizes the shorter side (bicubic, antialiased) and crops the center.

    uint8 (..., C, H, W) -> (..., C, size, size). `shorter_side` is at least `size`; None is `usual_resize(size)`.
    """
    resized = F.resize(images, [shorter_side or usual_resize(size)], InterpolationMode.BICUBIC, antialias=True)
    cropped: Tensor = F.center_crop(resized, [size, size])
    return cropped


def usual_resize(size: int) -> int:
    """Returns the length of the shorter side before a center crop of `size` pixels, as in dino/eval_knn.py."""
    return round(size * 256 / 224)
