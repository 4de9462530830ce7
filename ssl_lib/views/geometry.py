"""Flips, rotations and erasing of image batches. See `functional`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lib.views._checks import check_boxes, check_images, per_image

__all__ = ["erase", "horizontal_flip", "quarter_turns", "rotate", "vertical_flip"]


def horizontal_flip(images: Tensor, mask: Tensor) -> Tensor:
    """Flips the images selected by `mask` left to right.

    Args:
        images: (N, C, H, W).
        mask: (N,), booleans.

    Raises:
        ValueError: A shape is wrong.
    """
    check_images(images)
    return torch.where(per_image(mask, images).bool(), images.flip(-1), images)


def vertical_flip(images: Tensor, mask: Tensor) -> Tensor:
    """Flips the images selected by `mask` upside down.

    Args:
        images: (N, C, H, W).
        mask: (N,), booleans.

    Raises:
        ValueError: A shape is wrong.
    """
    check_images(images)
    return torch.where(per_image(mask, images).bool(), images.flip(-2), images)


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Rotates each image by a multiple of 90 degrees, counterclockwise.

    Equals `torch.rot90(image, k, (-2, -1))` image by image.

    Args:
        images: (N, C, S, S), square.
        turns: Number of quarter turns per image, integers (N,) of any sign.

    Raises:
        ValueError: A shape is wrong.
    """
    check_images(images)
    turns = per_image(turns % 4, images)
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"quarter_turns needs square images, got {tuple(images.shape)}")
    turned = torch.where(turns >= 2, images.rot90(2, (-2, -1)), images)
    return torch.where(turns % 2 == 1, turned.rot90(1, (-2, -1)), turned)


def rotate(images: Tensor, angle: Tensor) -> Tensor:
    """Rotates each image about its center, counterclockwise; pixels from outside the image are black.

    Equals `torchvision.transforms.v2.functional.rotate(..., interpolation=BILINEAR)` image by image.

    Args:
        images: (N, C, H, W), floats.
        angle: Rotation angle per image (N,), in degrees.

    Raises:
        ValueError: A shape is wrong.
    """
    check_images(images)
    height, width = images.shape[-2:]
    y = torch.arange(height, dtype=images.dtype, device=images.device).sub_((height - 1) / 2).view(-1, 1)
    x = torch.arange(width, dtype=images.dtype, device=images.device).sub_((width - 1) / 2)
    radians = torch.deg2rad(per_image(angle, images).squeeze(1))
    cosine, sine = radians.cos(), radians.sin()
    sources = torch.stack(((cosine * x - sine * y) / (width / 2), (sine * x + cosine * y) / (height / 2)), dim=3)
    return F.grid_sample(images, sources, mode="bilinear", padding_mode="zeros", align_corners=False)


def erase(images: Tensor, boxes: Tensor, value: float = 0.0) -> Tensor:
    """Fills one box of each image with a value.

    Equals `torchvision.transforms.v2.functional.erase` image by image.

    Args:
        images: (N, C, H, W).
        boxes: (N, 4), each top, left, height, width in pixels, inside the image. A height of 0 erases nothing. The
            values are checked on the CPU only.
        value: Fill value.

    Raises:
        ValueError: A shape is wrong, or a box extends beyond its image.
    """
    check_images(images)
    check_boxes(boxes, images, smallest=0)
    top, left, height, width = boxes.view(-1, 4, 1, 1).unbind(1)
    y = torch.arange(images.shape[-2], device=images.device).view(-1, 1)
    x = torch.arange(images.shape[-1], device=images.device)
    inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)  # (N, H, W)
    return images.masked_fill(inside.unsqueeze(1), value)
