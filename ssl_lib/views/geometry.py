"""Geometric operations on image batches: crop, flip, rotate, blur, erase; with argument checks. See `functional`."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lib.views import resample
from ssl_lib.views._checks import check_boxes, check_images, check_mask, per_image

__all__ = ["erase", "gaussian_blur", "horizontal_flip", "quarter_turns", "resized_crop", "rotate", "vertical_flip"]


def resized_crop(images: Tensor, boxes: Tensor, size: int, interpolation: str = "bilinear") -> Tensor:
    """Crops one box out of each image and resizes it to a square, with antialiasing.

    Equals `torchvision.transforms.v2.functional.resized_crop(..., antialias=True)` on float images, image by image.
    The filter is the triangle filter or the cubic filter of PIL (a = -0.5). The cubic filter overshoots; the result
    is not clamped. On CUDA, `torch.set_float32_matmul_precision` sets the precision of the matrix products.

    Args:
        images: (N, C, H, W), floats.
        boxes: (N, 4), each top, left, height, width in pixels, inside the image. The values are checked on the CPU
            only, because the check would synchronize with any other device.
        size: Side of the result in pixels.
        interpolation: "bilinear" or "bicubic".

    Returns:
        (N, C, size, size), with the dtype of `images`.

    Raises:
        ValueError: A shape, the size or the interpolation is wrong, or a box extends beyond its image.
    """
    check_images(images)
    if interpolation not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolation must be 'bilinear' or 'bicubic', got {interpolation!r}")
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    check_boxes(boxes, images, smallest=1)
    return resample.resized_crop(images, boxes, size, interpolation == "bicubic")


def horizontal_flip(images: Tensor, mask: Tensor) -> Tensor:
    """Flips the images selected by `mask` left to right.

    Args:
        images: (N, C, H, W).
        mask: (N,), booleans.

    Raises:
        ValueError: A shape is wrong.
    """
    check_images(images)
    check_mask(mask, images)
    return torch.where(mask.view(-1, 1, 1, 1), images.flip(-1), images)


def vertical_flip(images: Tensor, mask: Tensor) -> Tensor:
    """Flips the images selected by `mask` upside down.

    Args:
        images: (N, C, H, W).
        mask: (N,), booleans.

    Raises:
        ValueError: A shape is wrong.
    """
    check_images(images)
    check_mask(mask, images)
    return torch.where(mask.view(-1, 1, 1, 1), images.flip(-2), images)


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
    check_mask(turns, images)
    if images.shape[-1] != images.shape[-2]:
        raise ValueError(f"quarter_turns needs square images, got {tuple(images.shape)}")
    turns = turns.view(-1, 1, 1, 1) % 4
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
    return resample.rotate(images, per_image(angle, images))


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blurs each image with its own Gaussian kernel; the border is reflected without repeating the edge pixels.

    Equals `torchvision.transforms.v2.functional.gaussian_blur` image by image.

    Args:
        images: (N, C, H, W), floats.
        sigma: Standard deviations (N,) in pixels, positive.
        kernel_size: In pixels, odd, less than twice the shorter side.

    Raises:
        ValueError: A shape or the kernel size is wrong.
    """
    check_images(images)
    height, width = images.shape[-2:]
    if kernel_size < 1 or kernel_size % 2 == 0 or kernel_size >= 2 * min(height, width):
        allowed = f"odd, positive and less than twice the shorter side of {height} x {width} images"
        raise ValueError(f"kernel_size must be {allowed}, got {kernel_size}")
    return resample.gaussian_blur(images, per_image(sigma, images), kernel_size)


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
    return resample.erase_(images.clone(), boxes, value)
