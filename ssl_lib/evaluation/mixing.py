"""Mixup, cutmix and label smoothing for supervised training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Mixing", "cutmix", "mixup", "soft_targets"]


def soft_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Label smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7).

    Args:
        labels: (N,) class indices in [0, num_classes).
        num_classes: > 0.
        smoothing: Probability mass spread evenly over all classes, in [0, 1).

    Returns:
        (N, num_classes) float32; each row sums to 1.
    """
    targets = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return targets.scatter_add_(1, labels.unsqueeze(1), torch.full_like(targets[:, :1], 1 - smoothing))


def mixup(images: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Blends each image with its partner in the reversed batch, with weights `share` and 1 - `share`.

    Source: Zhang et al. 2018 (arXiv:1710.09412). The partners and the single weight per batch follow timm
    (timm/data/mixup.py).

    Args:
        images: (N, C, H, W).
        targets: (N, classes).
        share: Weight of the image itself, in [0, 1].
    """
    return share * images + (1 - share) * images.flip(0), share * targets + (1 - share) * targets.flip(0)


def cutmix(images: Tensor, targets: Tensor, box: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Replaces a box of each image by its partner in the reversed batch; labels are mixed by the number of pixels.

    Source: Yun et al. 2019 (arXiv:1905.04899). The partners and the single box per batch follow timm
    (timm/data/mixup.py).

    Args:
        images: (N, C, H, W).
        targets: (N, classes).
        box: First row, row after the last, first column, column after the last.
    """
    top, bottom, left, right = box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
    return mixed, share * targets + (1 - share) * targets.flip(0)


@dataclass(frozen=True)
class Mixing:
    """Applies mixup or cutmix to a batch, each with probability 1/2. An alpha of 0 disables the corresponding method.

    Attributes:
        mixup: alpha of the Beta(alpha, alpha) distribution of the mixup weight, at least 0.
        cutmix: alpha of the Beta(alpha, alpha) distribution of the fraction of the image that cutmix keeps, at least 0.
    """

    mixup: float = 0.8
    cutmix: float = 1.0

    def __call__(self, images: Tensor, targets: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mixes images (N, C, H, W) and targets (N, classes)."""
        coin = rng.random() < 0.5
        if self.cutmix and (coin or not self.mixup):
            box = _box(rng, images.shape[2], images.shape[3], rng.beta(self.cutmix, self.cutmix))
            return cutmix(images, targets, box)
        if self.mixup:
            return mixup(images, targets, float(rng.beta(self.mixup, self.mixup)))
        return images, targets


def _box(rng: np.random.Generator, height: int, width: int, share: float) -> tuple[int, int, int, int]:
    """A box around a random pixel with a fraction 1 - share of the image area, clipped to the image."""
    side = (1 - share) ** 0.5
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    row, column = int(rng.integers(height)), int(rng.integers(width))
    rows = max(row - half_height, 0), min(row + half_height, height)
    return *rows, max(column - half_width, 0), min(column + half_width, width)
