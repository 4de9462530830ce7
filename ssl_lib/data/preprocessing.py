"""From images as they come to what a trained backbone takes."""

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
    """Resizes (bicubic, antialiased), crops the center and normalizes, as the evaluation does.

    Attributes:
        size: Side of the square that is shown, in pixels.
        resize: Pixels that the shorter side is resized to first, at least `size`.
        mean: Of each channel, in [0, 1].
        std: Likewise.
    """

    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))  # files hold lists
        object.__setattr__(self, "std", tuple(self.std))
        if not 1 <= self.size <= self.resize or not len(self.mean) == len(self.std) >= 1:
            raise ValueError(f"needs 1 <= size <= resize and one mean and std per channel, got {self}")

    @classmethod
    def of(cls, data: ImageData, size: int) -> Preprocessing:
        """What `evaluation_batches` makes of the images of a data set, and the data's statistics."""
        as_they_are = isinstance(data, ArrayData) and (data.height, data.width) == (size, size)
        resize = size if as_they_are else usual_resize(size)
        return cls(size=size, resize=resize, mean=data.mean, std=data.std)

    def at(self, size: int) -> Preprocessing:
        """The same for another size, of which images are resized to 256/224."""
        return self if size == self.size else dataclasses.replace(self, size=size, resize=usual_resize(size))

    @property
    def channels(self) -> int:
        """C of every image."""
        return len(self.mean)

    def __call__(
        self, images: Tensor | Image.Image | Sequence[Image.Image], device: torch.device | None = None
    ) -> Tensor:
        """Makes a batch ready.

        Args:
            images: uint8 (N, C, H, W), gray ones (C = 1) for three channels too; or PIL images of any mode and size,
                turned upright by their EXIF orientation.
            device: Where the batch goes; None leaves it.

        Returns:
            float32 (N, C, size, size).

        Raises:
            ValueError: The images are none of these, or have other channels.
        """
        if isinstance(images, Tensor):
            batch = self._resized(images)
        else:
            pictures = [images] if isinstance(images, Image.Image) else list(images)
            if not pictures or not all(isinstance(picture, Image.Image) for picture in pictures):
                found = ", ".join(sorted({type(picture).__name__ for picture in pictures})) or "none"
                raise ValueError(f"images must be uint8 (N, C, H, W), or PIL images, at least one; got {found}")
            upright = (to_tensor(ImageOps.exif_transpose(picture), self.channels) for picture in pictures)
            batch = torch.cat([self._resized(picture.unsqueeze(0)) for picture in upright])
        return normalize(batch.to(device).float() / 255, self.mean, self.std)

    def _resized(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, self.channels):
            found = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            raise ValueError(f"images must be uint8 (N, {self.channels}, H, W), or PIL images; got {found}")
        return resize_and_crop(images.expand(-1, self.channels, -1, -1), self.size, self.resize)


def resize_and_crop(images: Tensor, size: int, shorter_side: int | None = None) -> Tensor:
    """Resizes the shorter side (bicubic, antialiased) and crops the center.

    uint8 (..., C, H, W) -> (..., C, size, size). `shorter_side` is at least `size` pixels; None is the usual.
    """
    resized = F.resize(images, [shorter_side or usual_resize(size)], InterpolationMode.BICUBIC, antialias=True)
    cropped: Tensor = F.center_crop(resized, [size, size])
    return cropped


def usual_resize(size: int) -> int:
    """Pixels of the shorter side of which the center, `size` pixels, is shown: as in DINO's dino/eval_knn.py."""
    return round(size * 256 / 224)
