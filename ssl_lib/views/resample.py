"""Crop, resize and blur of image batches, mostly as batched matrix products. See `functional`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lib.views._checks import check_boxes, check_images, per_image

__all__ = ["gaussian_blur", "resized_crop", "resized_crop_bytes"]


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
    cubic = interpolation == "bicubic"
    height, width = images.shape[-2:]
    exact = torch.promote_types(images.dtype, torch.float32)  # half precision cannot represent pixel positions exactly
    top, left, box_height, box_width = boxes.to(exact).unsqueeze(2).unbind(1)  # each (N, 1)
    rows = _resize_weights(top, box_height, height, size, cubic)
    columns = _resize_weights(left, box_width, width, size, cubic)
    return _separable(images, rows.to(images.dtype), columns.to(images.dtype))


def resized_crop_bytes(images: Tensor, boxes: Tensor, size: int, interpolation: str) -> Tensor:
    """Like `resized_crop`, for images on the CPU, image by image: uint8, rounded as torchvision does, or in [0, 1].

    torch's uint8 kernel is many times faster than float matrix products, even one image at a time. It is twice as fast
    again on images (N, C, H, W) in channels_last memory format.
    """
    crops = [
        F.interpolate(
            image[..., top : top + height, left : left + width], (size, size), mode=interpolation, antialias=True
        )
        for image, (top, left, height, width) in zip(images.split(1), boxes.tolist(), strict=True)
    ]
    joined = torch.cat(crops)
    return joined.clamp_(0, 1) if joined.is_floating_point() else joined


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
    sigma = per_image(sigma, images)
    if images.device.type == "cpu":
        reach = (4.5 * sigma.view(-1, 1)).ceil().clamp(max=kernel_size // 2)  # weights further out sum to 7e-6
        radius = int(reach.max())
        kernel = _gaussian(sigma, kernel_size)[:, kernel_size // 2 : kernel_size // 2 + radius + 1]
        kernel = kernel.masked_fill(torch.arange(radius + 1) > reach, 0)  # independent of the other images' radius
        return _sum_of_shifts(_sum_of_shifts(images, kernel, 3), kernel, 2)
    kernel = _gaussian(sigma, kernel_size)
    offsets = torch.arange(kernel_size, device=images.device) - kernel_size // 2
    rows = _blur_weights(kernel, offsets, height)
    columns = rows if height == width else _blur_weights(kernel, offsets, width)
    return _separable(images, rows, columns)


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
