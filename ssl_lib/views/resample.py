"""The geometry behind `functional`: crop, resize, flip and blur are linear, so each is two batched matrix products."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["gaussian_blur", "resized_crop"]


def resized_crop(images: Tensor, boxes: Tensor, size: int, cubic: bool, flip: Tensor | None = None) -> Tensor:
    """See `functional.resized_crop`."""
    height, width = images.shape[-2:]
    top, left, box_height, box_width = boxes.to(images.dtype).unsqueeze(2).unbind(1)  # each (N, 1)
    rows = _resize_weights(top, box_height, height, size, cubic)
    columns = _resize_weights(left, box_width, width, size, cubic, flip)
    return _separable(images, rows, columns)


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """See `functional.gaussian_blur`; `sigma` is (N, 1, 1, 1)."""
    height, width = images.shape[-2:]
    offsets = torch.arange(kernel_size, device=images.device) - kernel_size // 2
    kernel = torch.softmax(-0.5 * (offsets / sigma.view(-1, 1)).square(), dim=1)  # (N, taps)
    rows = _blur_weights(kernel, offsets, height)
    columns = rows if height == width else _blur_weights(kernel, offsets, width)
    return _separable(images, rows, columns)


def _resize_weights(
    start: Tensor, length: Tensor, side: int, size: int, cubic: bool, flip: Tensor | None = None
) -> Tensor:
    """Weights (N, side, size) of every input pixel in every output pixel; `start` and `length` are (N, 1)."""
    scale = length / size  # input pixels per output pixel
    radius = 2 if cubic else 1
    spread = scale.clamp(min=1)  # the filter widens when shrinking and never narrows
    outputs = torch.arange(0.5, size, dtype=start.dtype, device=start.device).expand(len(start), size)
    if flip is not None:
        outputs = torch.where(flip.unsqueeze(1), size - outputs, outputs)
    centers = outputs * scale  # (N, size), as all positions from the start of the box
    # No filter reaches further than that of the whole image, so a window of few pixels holds the weights.
    taps = min(side, math.ceil(2 * radius * max(1.0, side / size)) + 1)
    first = (centers - radius * spread + 0.5).floor_().clamp_(min=-start, max=side - taps - start)
    window = torch.arange(taps, dtype=start.dtype, device=start.device).unsqueeze(1)
    pixels = first.unsqueeze(1) + window  # (N, taps, size)
    distance = (pixels + (0.5 - centers).unsqueeze(1)).abs_().div_(spread.unsqueeze(2))
    distance.masked_fill_((pixels < 0) | (pixels >= length.unsqueeze(2)), radius)  # no weight outside the box
    weights = _cubic(distance) if cubic else distance.neg_().add_(1).clamp_(min=0)
    weights.div_(weights.sum(1, keepdim=True))
    dense = weights.new_zeros(len(start), side, size)
    return dense.scatter_(1, pixels.add_(start.unsqueeze(2)).long(), weights)


def _cubic(distance: Tensor) -> Tensor:
    """The cubic convolution kernel with a = -0.5, as a sum of a part that ends at 2 and one that ends at 1."""
    far = (2 - distance).clamp_(min=0)
    near = (far - 1).clamp_(min=0)
    weights = far.square().mul_(far - 1).mul_(0.5)
    return weights.addcmul_(near.square(), near.mul(-2).add_(1))


def _blur_weights(kernel: Tensor, offsets: Tensor, side: int) -> Tensor:
    """Weights (N, side, side) of every pixel in every blurred pixel, for kernels (N, taps) at `offsets` (taps,)."""
    pixels = torch.arange(side, device=offsets.device)
    sources = (pixels + offsets.unsqueeze(1)).abs()  # (taps, side), mirrored at 0 ...
    sources = side - 1 - (side - 1 - sources).abs()  # ... and at side - 1
    taps = (sources.unsqueeze(1) == pixels.unsqueeze(1)).to(kernel.dtype)  # (taps, side, side)
    return torch.mm(kernel, taps.flatten(1)).view(-1, side, side)


def _separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Computes `rows.T @ image @ columns` for each channel of each image; rows (N, H, new H), columns (N, W, new W)."""
    narrow = torch.bmm(images.flatten(1, 2), columns)  # (N, C * H, new W)
    return torch.matmul(rows.transpose(1, 2).unsqueeze(1), narrow.view(*images.shape[:3], -1))
