"""Resizing and center crop of evaluation images, in memory that does not depend on how long an image is."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

__all__ = ["resize_and_crop", "usual_resize"]

_LONG = 8  # images with one side more than 8 times the other are cropped before they are resized


def resize_and_crop(images: Tensor, size: int, shorter_side: int | None = None) -> Tensor:
    """Resizes the shorter side (bicubic, antialiased) and crops the center.

    Very long images are first cropped to the part that remains, so that the memory does not depend on their length.

    Args:
        images: uint8 or float32 in [0, 1], (..., C, H, W).
        size: Side of the output in pixels.
        shorter_side: Length of the shorter side after resizing, at least `size`; None is `usual_resize(size)`.

    Returns:
        (..., C, size, size) of the same type.
    """
    shorter_side = shorter_side or usual_resize(size)
    if max(images.shape[-2:]) > _LONG * min(images.shape[-2:]):
        cropped = _center_of_long(images, size, shorter_side)
    else:
        cropped = F.center_crop(_resized(images, shorter_side), [size, size])
    return cropped if cropped.dtype == torch.uint8 else cropped.clamp(0, 1)


def _center_of_long(images: Tensor, size: int, shorter_side: int) -> Tensor:
    """Resizes only the part of very long images that remains, with the pixels that the filter reaches.

    A block of `short` pixels becomes a block of exactly `shorter_side` pixels. The result touches at most two of them,
    and the filter at most two more on each side.
    """
    height, width = images.shape[-2:]
    short, long = sorted((height, width))
    start = round((int(shorter_side * long / short) - size) / 2)
    first = start // shorter_side - 2
    part = images.narrow(-2 if height > width else -1, first * short, 6 * short)
    along, across = start - first * shorter_side, round((shorter_side - size) / 2)
    top, left = (along, across) if height > width else (across, along)
    cropped: Tensor = F.crop(_resized(part, shorter_side), top, left, size, size)
    return cropped


def _resized(images: Tensor, shorter_side: int) -> Tensor:
    resized: Tensor = F.resize(images, [shorter_side], InterpolationMode.BICUBIC, antialias=True)
    return resized


def usual_resize(size: int) -> int:
    """Returns the length of the shorter side before a center crop of `size` pixels, as in dino/eval_knn.py."""
    return round(size * 256 / 224)
