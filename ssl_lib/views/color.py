"""The colour operations behind `functional`, in place and unchecked; `factor` is (N, 1, 1, 1)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["brightness_", "contrast_", "grayscale_", "hue_", "posterize_", "saturation_", "solarize_"]

_LUMA = (0.2989, 0.587, 0.114)


def brightness_(images: Tensor, factor: Tensor) -> Tensor:
    """See `functional.adjust_brightness`."""
    return images.mul_(factor).clamp_(0, 1)


def contrast_(images: Tensor, factor: Tensor) -> Tensor:
    """See `functional.adjust_contrast`."""
    means = images.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
    grey = _luminance(means) if images.shape[1] == 3 else means.mean(dim=1, keepdim=True)
    return images.mul_(factor).add_(grey * (1 - factor)).clamp_(0, 1)


def saturation_(images: Tensor, factor: Tensor) -> Tensor:
    """See `functional.adjust_saturation`."""
    if images.shape[1] == 1:
        return images
    grey = _luminance(images).mul_(1 - factor)
    return images.mul_(factor).add_(grey).clamp_(0, 1)


def hue_(images: Tensor, factor: Tensor) -> Tensor:
    """See `functional.adjust_hue`."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)  # each (N, H, W), as all below
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = torch.minimum(torch.minimum(red, green), blue).neg_().add_(value)
    # With red at 0, green at 2 and blue at 4 = -2, the distance of the hue from red is 2 + (G + B - R - max) / chroma
    # in every sector, and its sign that of G - B.
    hue = torch.sub(green, red).add_(blue).sub_(value)
    scratch = chroma.clamp(min=torch.finfo(images.dtype).tiny)
    hue.div_(scratch).add_(2).copysign_(torch.sub(green, blue, out=scratch)).add_(6 * factor.squeeze(1))
    hue.sub_(torch.mul(hue, 1 / 6, out=scratch).round_(), alpha=6)  # in [-3, 3]
    fall = torch.abs(hue, out=scratch).sub_(1).clamp_(0, 1)  # from value, in parts of the chroma
    red.copy_(value).addcmul_(chroma, fall, value=-1)
    for channel, turn in ((green, 1), (blue, -1)):
        fall = torch.add(hue, turn, out=scratch).abs_().neg_().add_(2).clamp_(0, 1)
        channel.copy_(value).addcmul_(chroma, fall, value=-1)
    return images


def grayscale_(images: Tensor) -> Tensor:
    """See `functional.to_grayscale`."""
    return images if images.shape[1] == 1 else images.copy_(_luminance(images))


def solarize_(images: Tensor, threshold: float) -> Tensor:
    """See `functional.solarize`."""
    bright = images.clone().ge_(threshold)  # ones and zeros
    return images.sub_(bright).abs_()  # |x - 1| or |x - 0|, several times faster than torch.where on the CPU


def posterize_(images: Tensor, bits: Tensor) -> Tensor:
    """See `functional.posterize`; `bits` is (N, 1, 1, 1)."""
    levels = torch.exp2(bits)
    return torch.minimum(images.mul_(levels).floor_(), levels - 1, out=images).div_(levels)


def _luminance(images: Tensor) -> Tensor:
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    return red.mul(_LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
