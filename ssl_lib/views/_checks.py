"""What the batched operations ask of their arguments."""

from __future__ import annotations

import torch
from torch import Tensor


def check_images(images: Tensor) -> None:
    """Refuses what is not a batch of float images."""
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be floats of shape (N, C, H, W), got {images.dtype} {tuple(images.shape)}")


def check_colors(images: Tensor) -> None:
    """Refuses images that are neither gray nor RGB."""
    check_images(images)
    if images.shape[1] not in (1, 3):
        raise ValueError(f"this operation is defined for 1 or 3 channels, got images {tuple(images.shape)}")


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Shapes one number per image (N,) for broadcasting against `images`, in their dtype: (N, 1, 1, 1)."""
    if values.shape != images.shape[:1]:
        raise ValueError(f"expected one value per image, shape ({len(images)},), got {tuple(values.shape)}")
    return values.to(images.dtype).view(-1, 1, 1, 1)


def check_mask(mask: Tensor, images: Tensor) -> None:
    """Refuses what is not one value per image."""
    if mask.shape != images.shape[:1]:
        raise ValueError(f"mask must be ({len(images)},) for {len(images)} images, got {tuple(mask.shape)}")


def check_boxes(boxes: Tensor, images: Tensor, smallest: int) -> None:
    """Refuses what is not one box per image; on the CPU, also boxes that leave their image or are too small."""
    height, width = images.shape[-2:]
    if boxes.shape != (len(images), 4):
        raise ValueError(f"boxes must be ({len(images)}, 4) for {len(images)} images, got {tuple(boxes.shape)}")
    if boxes.device.type != "cpu":
        return  # to look at the values would wait for the device
    limit = torch.tensor([height, width])
    wrong = (boxes[:, :2] < 0) | (boxes[:, 2:] < smallest) | (boxes[:, :2] + boxes[:, 2:] > limit)
    if wrong.any():
        box = boxes[wrong.any(1)][0].tolist()
        raise ValueError(f"box {box} (top, left, height, width) leaves its image of {height} x {width} pixels")
