"""Batched image operations with one parameter per image; each equals torchvision's, applied image by image.

Images are floats in [0, 1] of shape (N, C, H, W) on any device; float64 stays float64. Nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_lib.views import color, resample

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "gaussian_blur",
    "horizontal_flip",
    "normalize",
    "resized_crop",
    "solarize",
    "to_grayscale",
]


def resized_crop(
    images: Tensor, boxes: Tensor, size: int, interpolation: str = "bilinear", flip: Tensor | None = None
) -> Tensor:
    """Cuts one box out of each image and resizes it to a square, with antialiasing.

    Equals `torchvision.transforms.v2.functional.resized_crop(..., antialias=True)` on float images, image by image:
    the triangle filter, or the cubic one (a = -0.5) that PIL uses too. The cubic overshoots; nothing is clamped here.
    On CUDA the products have the precision that `torch.set_float32_matmul_precision` sets.

    Args:
        images: (N, C, H, W), floats.
        boxes: (N, 4), each top, left, height, width in pixels, inside the image. Values are checked on the CPU only,
            as on another device this would wait for it.
        size: Side of the result in pixels.
        interpolation: "bilinear" or "bicubic".
        flip: Booleans (N,): the images to mirror left to right after the resize, at no further cost.

    Returns:
        (N, C, size, size), of the dtype of `images`.

    Raises:
        ValueError: A shape, the size or the interpolation is wrong, or a box leaves its image.
    """
    _check(images)
    count, _, height, width = images.shape
    if interpolation not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolation must be 'bilinear' or 'bicubic', got {interpolation!r}")
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    if boxes.shape != (count, 4):
        raise ValueError(f"boxes must be ({count}, 4) for {count} images, got {tuple(boxes.shape)}")
    if flip is not None and flip.shape != (count,):
        raise ValueError(f"flip must be ({count},) for {count} images, got {tuple(flip.shape)}")
    if boxes.device.type == "cpu":
        _check_boxes(boxes, height, width)
    return resample.resized_crop(images, boxes, size, interpolation == "bicubic", flip)


def horizontal_flip(images: Tensor, mask: Tensor) -> Tensor:
    """Mirrors the images of `mask` left to right.

    Args:
        images: (N, C, H, W).
        mask: Booleans (N,).

    Raises:
        ValueError: A shape is wrong.
    """
    _check(images)
    if mask.shape != images.shape[:1]:
        raise ValueError(f"mask must be ({len(images)},) for {len(images)} images, got {tuple(mask.shape)}")
    return torch.where(mask.view(-1, 1, 1, 1), images.flip(-1), images)


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blurs each image with its own Gaussian, mirrored at the borders without repeating the edge.

    Equals `torchvision.transforms.v2.functional.gaussian_blur` image by image.

    Args:
        images: (N, C, H, W), floats.
        sigma: Standard deviations (N,) in pixels, positive.
        kernel_size: Number of taps, odd, below twice the shorter side.

    Raises:
        ValueError: A shape or the kernel size is wrong.
    """
    _check(images)
    height, width = images.shape[-2:]
    if kernel_size < 1 or kernel_size % 2 == 0 or kernel_size >= 2 * min(height, width):
        allowed = f"odd, positive and below twice the shorter side of {height} x {width} images"
        raise ValueError(f"kernel_size must be {allowed}, got {kernel_size}")
    return resample.gaussian_blur(images, _per_image(sigma, images), kernel_size)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies each image by its factor and clamps to [0, 1].

    Equals `torchvision.transforms.v2.functional.adjust_brightness` image by image.

    Args:
        images: (N, C, H, W), in [0, 1].
        factor: (N,), at least 0; 0 gives black, 1 the image itself.

    Raises:
        ValueError: A shape is wrong.
    """
    _check(images)
    return color.brightness_(images.clone(), _per_image(factor, images))


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each image with its mean grey level and clamps to [0, 1].

    Equals `torchvision.transforms.v2.functional.adjust_contrast` image by image. With other than 3 channels the grey
    level is the plain mean.

    Args:
        images: (N, C, H, W), in [0, 1].
        factor: (N,), at least 0; 0 gives even grey, 1 the image itself.

    Raises:
        ValueError: A shape is wrong.
    """
    _check(images)
    return color.contrast_(images.clone(), _per_image(factor, images))


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each image with its grey version and clamps to [0, 1]; grey images stay as they are.

    Equals `torchvision.transforms.v2.functional.adjust_saturation` image by image.

    Args:
        images: (N, 1 or 3, H, W), in [0, 1].
        factor: (N,), at least 0; 0 gives the grey version, 1 the image itself.

    Raises:
        ValueError: A shape is wrong.
    """
    _check_colors(images)
    return color.saturation_(images.clone(), _per_image(factor, images))


def adjust_hue(images: Tensor, factor: Tensor) -> Tensor:
    """Turns the hue of each image in HSV space; grey images stay as they are.

    Equals `torchvision.transforms.v2.functional.adjust_hue` image by image.

    Args:
        images: (N, 1 or 3, H, W), in [0, 1].
        factor: (N,), in turns of the colour wheel, in [-0.5, 0.5].

    Raises:
        ValueError: A shape is wrong.
    """
    _check_colors(images)
    return color.hue_(images.clone(), _per_image(factor, images))


def to_grayscale(images: Tensor) -> Tensor:
    """Replaces every channel by the luminance; grey images stay as they are.

    Equals `torchvision.transforms.v2.functional.rgb_to_grayscale(..., num_output_channels=3)`.

    Args:
        images: (N, 1 or 3, H, W).

    Raises:
        ValueError: The shape is wrong.
    """
    _check_colors(images)
    return color.grayscale_(images.clone())


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Inverts the pixels at or above the threshold.

    Equals `torchvision.transforms.v2.functional.solarize`.

    Args:
        images: (N, C, H, W), in [0, 1].
        threshold: In [0, 1], on the scale of the images: 128 of 255 is 0.5 here.

    Raises:
        ValueError: The shape or the threshold is wrong.
    """
    _check(images)
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"the solarize threshold must lie in [0, 1] (0.5 is 128 of 255), got {threshold}")
    return color.solarize_(images.clone(), threshold)


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtracts the mean and divides by the standard deviation, channel by channel.

    Args:
        images: (N, C, H, W).
        mean: One number per channel, or one for all.
        std: Likewise, positive.

    Raises:
        ValueError: A shape is wrong, or a standard deviation is not positive.
    """
    _check(images)
    channels = images.shape[1]
    for name, numbers in (("mean", mean), ("std", std)):
        if len(numbers) not in (1, channels):
            raise ValueError(f"{name} must have 1 or {channels} numbers for {channels} channels, got {numbers!r}")
    if min(std) <= 0:
        raise ValueError(f"std must be positive, got {std!r}")
    shift, scale = (torch.tensor(numbers, dtype=images.dtype).view(-1, 1, 1) for numbers in (mean, std))
    device = images.device
    return images.sub(shift.to(device, non_blocking=True)).div_(scale.to(device, non_blocking=True))


def _check(images: Tensor) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be floats of shape (N, C, H, W), got {images.dtype} {tuple(images.shape)}")


def _check_colors(images: Tensor) -> None:
    _check(images)
    if images.shape[1] not in (1, 3):
        raise ValueError(f"this operation is defined for 1 or 3 channels, got images {tuple(images.shape)}")


def _check_boxes(boxes: Tensor, height: int, width: int) -> None:
    limit = torch.tensor([height, width])
    wrong = (boxes[:, :2] < 0) | (boxes[:, 2:] < 1) | (boxes[:, :2] + boxes[:, 2:] > limit)
    if wrong.any():
        box = boxes[wrong.any(1)][0].tolist()
        raise ValueError(f"box {box} (top, left, height, width) leaves its image of {height} x {width} pixels")


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    """Shapes one number per image (N,) for broadcasting against `images`, in their dtype: (N, 1, 1, 1)."""
    if values.shape != images.shape[:1]:
        raise ValueError(f"expected one value per image, shape ({len(images)},), got {tuple(values.shape)}")
    return values.to(images.dtype).view(-1, 1, 1, 1)
