"""Colour operations, checked; see `functional`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_lib.views import color
from ssl_lib.views._checks import check_colors, check_images, per_image

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "channel_statistics",
    "normalize",
    "posterize",
    "solarize",
    "to_grayscale",
]


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies each image by its factor and clamps to [0, 1].

    Equals `torchvision.transforms.v2.functional.adjust_brightness` image by image.

    Args:
        images: (N, C, H, W), in [0, 1].
        factor: (N,), at least 0; 0 gives black, 1 the image itself.

    Raises:
        ValueError: A shape is wrong.
    """
    check_images(images)
    return color.brightness_(images.clone(), per_image(factor, images))


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
    check_images(images)
    return color.contrast_(images.clone(), per_image(factor, images))


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each image with its grey version and clamps to [0, 1]; grey images stay as they are.

    Equals `torchvision.transforms.v2.functional.adjust_saturation` image by image.

    Args:
        images: (N, 1 or 3, H, W), in [0, 1].
        factor: (N,), at least 0; 0 gives the grey version, 1 the image itself.

    Raises:
        ValueError: A shape is wrong.
    """
    check_colors(images)
    return color.saturation_(images.clone(), per_image(factor, images))


def adjust_hue(images: Tensor, factor: Tensor) -> Tensor:
    """Turns the hue of each image in HSV space; grey images stay as they are.

    Equals `torchvision.transforms.v2.functional.adjust_hue` image by image.

    Args:
        images: (N, 1 or 3, H, W), in [0, 1].
        factor: (N,), in turns of the colour wheel, in [-0.5, 0.5].

    Raises:
        ValueError: A shape is wrong.
    """
    check_colors(images)
    return color.hue_(images.clone(), per_image(factor, images))


def to_grayscale(images: Tensor) -> Tensor:
    """Replaces every channel by the luminance; grey images stay as they are.

    Equals `torchvision.transforms.v2.functional.rgb_to_grayscale(..., num_output_channels=3)`.

    Args:
        images: (N, 1 or 3, H, W).

    Raises:
        ValueError: The shape is wrong.
    """
    check_colors(images)
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
    check_images(images)
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"the solarize threshold must lie in [0, 1] (0.5 is 128 of 255), got {threshold}")
    return color.solarize_(images.clone(), threshold)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keeps the leading bits of each image's values: 2**bits levels, from 0 to 1 - 2**-bits.

    Equals `torchvision.transforms.v2.functional.posterize` on float images, image by image.

    Args:
        images: (N, C, H, W), in [0, 1].
        bits: (N,), whole numbers in [1, 8].

    Raises:
        ValueError: A shape is wrong.
    """
    check_images(images)
    return color.posterize_(images.clone(), per_image(bits, images))


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtracts the mean and divides by the standard deviation, channel by channel.

    Args:
        images: (N, C, H, W).
        mean: One number per channel, or one for all.
        std: Likewise, positive.

    Raises:
        ValueError: A shape is wrong, or a standard deviation is not positive.
    """
    check_images(images)
    shift, scale = channel_statistics(images, mean, std)
    return images.sub(shift).div_(scale)


def channel_statistics(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C or 1, 1, 1), of the type and on the device of `images` (N, C, H, W).

    Raises:
        ValueError: There is neither one number per channel nor one for all, or a standard deviation is not positive.
    """
    channels = images.shape[1]
    for name, numbers in (("mean", mean), ("std", std)):
        if len(numbers) not in (1, channels):
            raise ValueError(f"{name} must have 1 or {channels} numbers for {channels} channels, got {numbers!r}")
    if min(std) <= 0:
        raise ValueError(f"std must be positive, got {std!r}")
    shift, scale = (torch.tensor(numbers, dtype=images.dtype).view(-1, 1, 1) for numbers in (mean, std))
    return shift.to(images.device, non_blocking=True), scale.to(images.device, non_blocking=True)
