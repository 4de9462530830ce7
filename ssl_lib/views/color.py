"""Color operations on image batches, and their in-place versions, whose names end in an underscore.

The in-place versions return their first argument. They do not check that `images` are float images with the right
number of channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_lib.views._checks import check_colors, check_images, per_image

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "brightness_",
    "channel_statistics",
    "contrast_",
    "grayscale_",
    "hue_",
    "normalize",
    "posterize",
    "posterize_",
    "saturation_",
    "solarize",
    "solarize_",
    "to_grayscale",
]

_LUMA = (0.2989, 0.587, 0.114)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies each image by its factor and clamps to [0, 1].

    Equals `torchvision.transforms.v2.functional.adjust_brightness` image by image.

    Args:
        images: (N, C, H, W), in [0, 1].
        factor: (N,), at least 0; 0 gives a black image, 1 the original image.

    Raises:
        ValueError: A shape is wrong.
    """
    check_images(images)
    return brightness_(images.clone(), factor)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each image with its mean gray level and clamps to [0, 1].

    Equals `torchvision.transforms.v2.functional.adjust_contrast` image by image. If there are not 3 channels, the
    gray level is the mean of the channels.

    Args:
        images: (N, C, H, W), in [0, 1].
        factor: (N,), at least 0; 0 gives a uniform gray image, 1 the original image.

    Raises:
        ValueError: A shape is wrong.
    """
    check_images(images)
    return contrast_(images.clone(), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each image with its grayscale version and clamps to [0, 1]. Gray images are unchanged.

    Equals `torchvision.transforms.v2.functional.adjust_saturation` image by image.

    Args:
        images: (N, 1 or 3, H, W), in [0, 1].
        factor: (N,), at least 0; 0 gives the grayscale version, 1 the original image.

    Raises:
        ValueError: A shape is wrong.
    """
    check_colors(images)
    return saturation_(images.clone(), factor)


def adjust_hue(images: Tensor, factor: Tensor) -> Tensor:
    """Shifts the hue of each image in HSV space. Gray images are unchanged.

    Equals `torchvision.transforms.v2.functional.adjust_hue` image by image.

    Args:
        images: (N, 1 or 3, H, W), in [0, 1].
        factor: Hue shift (N,) in turns of the color wheel, in [-0.5, 0.5].

    Raises:
        ValueError: A shape is wrong.
    """
    check_colors(images)
    return hue_(images.clone(), factor)


def to_grayscale(images: Tensor) -> Tensor:
    """Replaces every channel by the luminance. Gray images are unchanged.

    Equals `torchvision.transforms.v2.functional.rgb_to_grayscale(..., num_output_channels=3)`.

    Args:
        images: (N, 1 or 3, H, W).

    Raises:
        ValueError: The shape is wrong.
    """
    check_colors(images)
    return grayscale_(images.clone())


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Inverts the values at or above the threshold.

    Equals `torchvision.transforms.v2.functional.solarize`.

    Args:
        images: (N, C, H, W), in [0, 1].
        threshold: In [0, 1]; 0.5 is 128 of 255.

    Raises:
        ValueError: The shape or the threshold is wrong.
    """
    check_images(images)
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"the solarize threshold must be in [0, 1] (0.5 is 128 of 255), got {threshold}")
    return solarize_(images.clone(), images.new_full((len(images),), threshold))


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keeps the leading bits of the values of each image: 2**bits levels, from 0 to 1 - 2**-bits.

    Equals `torchvision.transforms.v2.functional.posterize` on float images, image by image.

    Args:
        images: (N, C, H, W), in [0, 1].
        bits: (N,), integers in [1, 8].

    Raises:
        ValueError: A shape is wrong.
    """
    check_images(images)
    return posterize_(images.clone(), bits)


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtracts the mean and divides by the standard deviation of each channel.

    Args:
        images: (N, C, H, W).
        mean: One value per channel, or one for all channels.
        std: One positive value per channel, or one for all channels.

    Raises:
        ValueError: A shape is wrong, or a standard deviation is not positive.
    """
    check_images(images)
    shift, scale = channel_statistics(images, mean, std)
    return images.sub(shift).div_(scale)


def to_floats(images: Tensor, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
    """Converts uint8 images to a new float32 tensor in [0, 1]; float images are returned unchanged."""
    if images.is_floating_point():
        return images
    return images.to(torch.float32, memory_format=memory_format).div_(255)


def channel_statistics(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Returns mean and std of `normalize`, checked, as tensors (C or 1, 1, 1) like `images` (N, C, H, W)."""
    channels = images.shape[1]
    for name, numbers in (("mean", mean), ("std", std)):
        if len(numbers) not in (1, channels):
            raise ValueError(f"{name} must have 1 or {channels} values for {channels} channels, got {numbers!r}")
    if min(std) <= 0:
        raise ValueError(f"std must be positive, got {std!r}")
    shift, scale = (torch.tensor(numbers, dtype=images.dtype).view(-1, 1, 1) for numbers in (mean, std))
    return shift.to(images.device, non_blocking=True), scale.to(images.device, non_blocking=True)


def brightness_(images: Tensor, factor: Tensor) -> Tensor:
    """See `functional.adjust_brightness`."""
    return images.mul_(per_image(factor, images)).clamp_(0, 1)


def contrast_(images: Tensor, factor: Tensor) -> Tensor:
    """See `functional.adjust_contrast`."""
    factor, means = per_image(factor, images), images.mean(dim=(2, 3), keepdim=True)  # (N, 1, 1, 1), (N, C, 1, 1)
    gray = _luminance(means) if images.shape[1] == 3 else means.mean(dim=1, keepdim=True)
    return images.mul_(factor).add_(gray * (1 - factor)).clamp_(0, 1)


def saturation_(images: Tensor, factor: Tensor) -> Tensor:
    """See `functional.adjust_saturation`."""
    if images.shape[1] == 1:
        return images
    factor = per_image(factor, images)
    gray = _luminance(images).mul_(1 - factor)
    return images.mul_(factor).add_(gray).clamp_(0, 1)


def hue_(images: Tensor, factor: Tensor) -> Tensor:
    """See `functional.adjust_hue`."""
    if images.shape[1] == 1:
        return images
    shift = 6 * per_image(factor, images).squeeze(1)  # (N, 1, 1)
    red, green, blue = images.unbind(1)  # each (N, H, W), like all tensors below
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = torch.minimum(torch.minimum(red, green), blue).neg_().add_(value)
    # On a hue circle with red at 0, green at 2 and blue at 4 = -2, the distance of the hue from red is
    # 2 + (G + B - R - max) / chroma in every sector. The sign of the hue is the sign of G - B.
    hue = torch.sub(green, red).add_(blue).sub_(value)
    scratch = chroma.clamp(min=torch.finfo(images.dtype).tiny)
    hue.div_(scratch).add_(2).copysign_(torch.sub(green, blue, out=scratch)).add_(shift)
    hue.sub_(torch.mul(hue, 1 / 6, out=scratch).round_(), alpha=6)  # in [-3, 3]
    fall = torch.abs(hue, out=scratch).sub_(1).clamp_(0, 1)  # difference to `value` as a fraction of the chroma
    red.copy_(value).addcmul_(chroma, fall, value=-1)
    for channel, turn in ((green, 1), (blue, -1)):
        fall = torch.add(hue, turn, out=scratch).abs_().neg_().add_(2).clamp_(0, 1)
        channel.copy_(value).addcmul_(chroma, fall, value=-1)
    return images


def grayscale_(images: Tensor) -> Tensor:
    """See `functional.to_grayscale`."""
    return images if images.shape[1] == 1 else images.copy_(_luminance(images))


def solarize_(images: Tensor, threshold: Tensor) -> Tensor:
    """See `functional.solarize`; with one threshold per image (N,)."""
    bright = images.clone().ge_(per_image(threshold, images))  # ones and zeros
    return images.sub_(bright).abs_()  # |x - 1| or |x - 0|: several times faster than torch.where on the CPU


def posterize_(images: Tensor, bits: Tensor) -> Tensor:
    """See `functional.posterize`."""
    levels = torch.exp2(per_image(bits, images))
    return torch.minimum(images.mul_(levels).floor_(), levels - 1, out=images).div_(levels)


def _luminance(images: Tensor) -> Tensor:
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    return red.mul(_LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
