"""Argument checks of the batched image operations."""

from __future__ import annotations

import torch
from torch import Tensor


def check_images(images: Tensor) -> None:
    """Raises a ValueError unless `images` is a float tensor (N, C, H, W)."""
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be floats of shape (N, C, H, W), got {images.dtype} {tuple(images.shape)}")


def check_unit_range(images: Tensor) -> None:
    """Raises a ValueError if a floating-point value is NaN or not in [0, 1]."""
    if images.is_floating_point() and images.numel():
        low, high = (value.item() for value in images.aminmax())
        if not 0 <= low <= high <= 1:  # also true for NaN
            raise ValueError(f"float images must be in [0, 1], got {low:.3g} to {high:.3g}")


def check_colors(images: Tensor) -> None:
    """Raises a ValueError unless `images` is a float tensor with 1 or 3 channels."""
    check_images(images)
    if images.shape[1] not in (1, 3):
        raise ValueError(f"this operation needs images with 1 or 3 channels, got {tuple(images.shape)}")


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Reshapes one value per image (N,) to (N, 1, 1, 1), with the dtype of `images`."""
    if values.shape != images.shape[:1]:
        raise ValueError(f"expected one value per image, shape ({len(images)},), got {tuple(values.shape)}")
    return values.to(images.dtype).view(-1, 1, 1, 1)


def check_boxes(boxes: Tensor, images: Tensor, smallest: int) -> None:
    """Raises a ValueError unless there is one box per image; on the CPU, also checks that each is inside its image."""
    height, width = images.shape[-2:]
    if boxes.shape != (len(images), 4):
        raise ValueError(f"boxes must have shape ({len(images)}, 4) for {len(images)} images, got {tuple(boxes.shape)}")
    if boxes.device.type != "cpu":
        return  # reading the values would synchronize with the device
    limit = torch.tensor([height, width])
    wrong = (boxes[:, :2] < 0) | (boxes[:, 2:] < smallest) | (boxes[:, :2] + boxes[:, 2:] > limit)
    if wrong.any():
        box = boxes[wrong.any(1)][0].tolist()
        raise ValueError(
            f"box {box} (top, left, height, width) must have sides of at least {smallest} and be inside its image of "
            f"{height} x {width} pixels"
        )
