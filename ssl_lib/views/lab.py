"""CIELAB colors, and classes of colors for colorization."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_lib.views._checks import check_images

__all__ = ["ColorClasses", "color_bins", "rgb_to_lab"]

# sRGB to XYZ, divided by the white point D65 of the 2 degree observer (IEC 61966-2-1)
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)

BIN = 10.0
"""Side of a color bin in units of a and b."""
_GRAY = 5.0  # an image whose a and b are all at most this has no colors
_NEIGHBORS, _SIGMA = 10, 5.0  # of the soft assignment to bins


def rgb_to_lab(images: Tensor) -> Tensor:
    """Converts sRGB colors to CIELAB with the white point D65 (CIE 15:2004).

    Args:
        images: (N, 3, H, W), red, green and blue in [0, 1].

    Returns:
        (N, 3, H, W): L in [0, 100], a and b in about [-108, 99].

    Raises:
        ValueError: The images do not have three channels.
    """
    check_images(images)
    if images.shape[1] != 3:
        raise ValueError(f"colors need images of three channels (N, 3, H, W), got {tuple(images.shape)}")
    linear = torch.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055).clamp_min(0) ** 2.4)
    matrix = images.new_tensor(_XYZ) / images.new_tensor(_WHITE)[:, None]
    xyz = torch.einsum("ij,njhw->nihw", matrix, linear)
    root = xyz.clamp_min(1e-12) ** (1 / 3)
    x, y, z = torch.where(xyz > (6 / 29) ** 3, root, xyz * (29 / 6) ** 2 / 3 + 4 / 29).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


@functools.cache
def color_bins() -> Tensor:
    """Centers (Q, 2) of the bins of 10 x 10 units of a and b that contain a color of 8-bit sRGB; Q is 261.

    The reference (pts_in_hull.npy of richzhang/colorization) has 313 bins; no color of an 8-bit image is in the others.
    """
    levels = torch.arange(256, dtype=torch.float64, device="cpu") / 255
    square = torch.cartesian_prod(levels, levels)
    faces = [  # every a and b of the color cube is also on its surface: with the same a and b, L can grow to the edge
        torch.cat([square[:, :axis], torch.full_like(square[:, :1], end), square[:, axis:]], 1)
        for axis in range(3)
        for end in (0.0, 1.0)
    ]
    colors = rgb_to_lab(torch.cat(faces).T[None, :, :, None])[0, 1:, :, 0].T
    bins: Tensor = (colors / BIN + 0.5).floor().unique(dim=0)
    return (bins * BIN).float()


class ColorClasses(nn.Module):
    """The lightness of normalized color images as an input, and their colors as soft classes at the points of a grid.

    Source: arXiv:1603.08511, section 2.2, and `NNEncLayer`, `NonGrayMaskLayer` of caffe_traininglayers.py: each point
    belongs to its 10 nearest bins of color with weights exp(-d^2 / (2 sigma^2)), sigma = 5. Points are single pixels,
    not means of cells, which would fade.

    Args:
        mean: Mean with which the images are normalized, one per channel or one for all.
        std: Standard deviation with which the images are normalized, likewise.
        grid: Number of points per row and column G.
    """

    mean: Tensor
    std: Tensor
    bins: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], grid: int) -> None:
        super().__init__()
        self.grid = grid
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.register_buffer("bins", color_bins().clone(), persistent=False)

    def lab(self, images: Tensor) -> Tensor:
        """Returns the CIELAB colors (N, 3, H, W) of normalized images."""
        with torch.autocast(images.device.type, enabled=False):
            return rgb_to_lab((images * self.std + self.mean).clamp(0, 1))

    def lightness(self, lab: Tensor, channels: int) -> Tensor:
        """Returns L / 100 in each of some channels (N, C, H, W), normalized like the images."""
        fits = len(self.mean) in (1, channels)
        mean, std = (self.mean, self.std) if fits else (self.mean.mean(0), self.std.mean(0))
        return (lab[:, :1].expand(-1, channels, -1, -1) / 100 - mean) / std

    def classes(self, lab: Tensor) -> tuple[Tensor, Tensor]:
        """Returns probabilities (N, G * G, Q) over the bins, and which images (N,) have colors."""
        rows, columns = (self._points(side, lab.device) for side in lab.shape[2:])
        ab = lab[:, 1:, rows[:, None], columns].flatten(2).mT  # (N, G * G, 2)
        distances = (ab[:, :, None] - self.bins).square().sum(3)
        nearest = distances.topk(_NEIGHBORS, largest=False)
        weights = (-nearest.values / (2 * _SIGMA**2)).softmax(2)
        colored = (ab.abs() > _GRAY).flatten(1).any(1)
        return torch.zeros_like(distances).scatter(2, nearest.indices, weights), colored

    def forward(self, images: Tensor) -> Tensor:
        """Returns the mean probabilities of each image and whether it has colors, (N, Q + 1); zero without colors."""
        probabilities, colored = self.classes(self.lab(images))
        return torch.cat([probabilities.mean(1), torch.ones_like(probabilities[:, 0, :1])], 1) * colored[:, None]

    def _points(self, side: int, device: torch.device) -> Tensor:
        """The places of the grid's points along a side of the image."""
        if side < self.grid:
            raise ValueError(f"images of {side} pixels are too small for {self.grid} x {self.grid} points")
        return ((torch.arange(self.grid, device=device) + 0.5) * side / self.grid).long()
