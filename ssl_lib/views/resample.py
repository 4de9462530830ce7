"""Crop, resize, blur, rotation and erasing without argument checks, mostly as batched matrix products."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["erase_", "gaussian_blur", "resized_crop", "resized_crop_bytes", "rotate"]


def resized_crop(images: Tensor, boxes: Tensor, size: int, cubic: bool) -> Tensor:
    """See `functional.resized_crop`; `cubic` selects bicubic interpolation."""
    height, width = images.shape[-2:]
    exact = torch.promote_types(images.dtype, torch.float32)  # half precision cannot represent pixel positions exactly
    top, left, box_height, box_width = boxes.to(exact).unsqueeze(2).unbind(1)  # each (N, 1)
    rows = _resize_weights(top, box_height, height, size, cubic)
    columns = _resize_weights(left, box_width, width, size, cubic)
    return _separable(images, rows.to(images.dtype), columns.to(images.dtype))


def resized_crop_bytes(images: Tensor, boxes: Tensor, size: int, cubic: bool) -> Tensor:
    """Like `resized_crop`, for uint8 images on the CPU, rounded to uint8 as torchvision does.

    torch's uint8 kernel is many times faster than float matrix products, even one image at a time. It is twice as fast
    again on images (N, C, H, W) in channels_last memory format.
    """
    mode = "bicubic" if cubic else "bilinear"
    crops = [
        F.interpolate(image[..., top : top + height, left : left + width], (size, size), mode=mode, antialias=True)
        for image, (top, left, height, width) in zip(images.split(1), boxes.tolist(), strict=True)
    ]
    return torch.cat(crops)


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """See `functional.gaussian_blur`; `sigma` is (N, 1, 1, 1)."""
    if images.device.type == "cpu":
        reach = (4.5 * sigma.view(-1, 1)).ceil().clamp(max=kernel_size // 2)  # weights further out sum to 7e-6
        radius = int(reach.max())
        kernel = _gaussian(sigma, kernel_size)[:, kernel_size // 2 : kernel_size // 2 + radius + 1]
        kernel = kernel.masked_fill(torch.arange(radius + 1) > reach, 0)  # independent of the other images' radius
        return _sum_of_shifts(_sum_of_shifts(images, kernel, 3), kernel, 2)
    height, width = images.shape[-2:]
    kernel = _gaussian(sigma, kernel_size)
    offsets = torch.arange(kernel_size, device=images.device) - kernel_size // 2
    rows = _blur_weights(kernel, offsets, height)
    columns = rows if height == width else _blur_weights(kernel, offsets, width)
    return _separable(images, rows, columns)


def rotate(images: Tensor, angle: Tensor) -> Tensor:
    """See `functional.rotate`; `angle` is (N, 1, 1, 1)."""
    height, width = images.shape[-2:]
    y = torch.arange(height, dtype=images.dtype, device=images.device).sub_((height - 1) / 2).view(-1, 1)
    x = torch.arange(width, dtype=images.dtype, device=images.device).sub_((width - 1) / 2)
    radians = torch.deg2rad(angle.view(-1, 1, 1))
    cosine, sine = radians.cos(), radians.sin()
    sources = torch.stack(((cosine * x - sine * y) / (width / 2), (sine * x + cosine * y) / (height / 2)), dim=3)
    return F.grid_sample(images, sources, mode="bilinear", padding_mode="zeros", align_corners=False)


def erase_(images: Tensor, boxes: Tensor, value: float) -> Tensor:
    """See `functional.erase`; in place."""
    top, left, height, width = boxes.view(-1, 4, 1, 1).unbind(1)
    y = torch.arange(images.shape[-2], device=images.device).view(-1, 1)
    x = torch.arange(images.shape[-1], device=images.device)
    inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)  # (N, H, W)
    return images.masked_fill_(inside.unsqueeze(1), value)


def _resize_weights(start: Tensor, length: Tensor, side: int, size: int, cubic: bool) -> Tensor:
    """Computes the weight of every input pixel in every output pixel, (N, side, size); `start`, `length` are (N, 1)."""
    scale = length / size  # input pixels per output pixel
    radius = 2 if cubic else 1
    spread = scale.clamp(min=1)  # the filter is wider for downsampling, never narrower
    outputs = torch.arange(0.5, size, dtype=start.dtype, device=start.device)
    centers = outputs * scale  # (N, size), like all positions relative to the start of the box
    # The filter is widest for a box as large as the image, so a window of `taps` pixels contains all weights.
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
    """Cubic convolution kernel with a = -0.5, computed as the sum of a part on [0, 2] and a part on [0, 1]."""
    far = (2 - distance).clamp_(min=0)
    near = (far - 1).clamp_(min=0)
    weights = far.square().mul_(far - 1).mul_(0.5)
    return weights.addcmul_(near.square(), near.mul(-2).add_(1))


def _gaussian(sigma: Tensor, taps: int) -> Tensor:
    """Computes Gaussian weights (N, taps) with sum 1 for `sigma` (N, 1, 1, 1)."""
    offsets = torch.arange(taps, device=sigma.device) - taps // 2
    return torch.softmax(-0.5 * (offsets / sigma.view(-1, 1)).square(), dim=1)


def _sum_of_shifts(images: Tensor, kernel: Tensor, dim: int) -> Tensor:
    """Convolves along `dim` with symmetric kernels, given by their center and right half `kernel` (N, radius + 1)."""
    radius, side = kernel.shape[1] - 1, images.shape[dim]
    margin = [radius, radius, 0, 0] if dim == 3 else [0, 0, radius, radius]
    padded = F.pad(images, margin, mode="reflect")
    center, *weights = kernel.view(*kernel.shape, 1, 1, 1).unbind(1)  # each (N, 1, 1, 1)
    total, pair = images * center, torch.empty_like(images)
    for shift, weight in enumerate(weights, start=1):
        left, right = (padded.narrow(dim, radius + sign * shift, side) for sign in (-1, 1))
        total.addcmul_(torch.add(left, right, out=pair), weight)
    return total


def _blur_weights(kernel: Tensor, offsets: Tensor, side: int) -> Tensor:
    """Computes the blur as matrices (N, side, side), for kernels (N, taps) at `offsets` (taps,)."""
    pixels = torch.arange(side, device=offsets.device)
    sources = (pixels + offsets.unsqueeze(1)).abs()  # (taps, side), reflected at 0 ...
    sources = side - 1 - (side - 1 - sources).abs()  # ... and at side - 1
    taps = (sources.unsqueeze(1) == pixels.unsqueeze(1)).to(kernel.dtype)  # (taps, side, side)
    return torch.mm(kernel, taps.flatten(1)).view(-1, side, side)


def _separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Computes `rows.T @ image @ columns` for each channel of each image; rows (N, H, new H), columns (N, W, new W)."""
    narrow = torch.bmm(images.flatten(1, 2), columns)  # (N, C * H, new W)
    return torch.matmul(rows.transpose(1, 2).unsqueeze(1), narrow.view(*images.shape[:3], -1))
