"""Image grid of originals and their augmented views, for visual inspection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ssl_lib.types import Views

__all__ = ["CELL", "draw_views", "pixels", "thumbnail"]

CELL = 112
"""Side of a thumbnail in pixels."""

_GAP, _LINE = 4, 14  # pixels


def draw_views(
    originals: Sequence[Tensor], views: Views, mean: Sequence[float], std: Sequence[float], title: str
) -> Image.Image:
    """Draws one row per image, the original followed by its views, on white, below a title and the column names.

    Args:
        originals: One uint8 (C, H, W) per image.
        views: Normalized views of these images.
        mean: Mean that the views were normalized with.
        std: Standard deviation that the views were normalized with.
        title: Text above the grid, such as the name of the preset.
    """
    columns = [("image", list(originals))]
    for kind, group in (("large", views.large), ("small", views.small)):
        columns += [(f"{kind} {number}", list(pixels(view, mean, std))) for number, view in enumerate(group, start=1)]
    grid_height = len(originals) * (CELL + _GAP) + 2 * _LINE + _GAP
    picture = Image.new("RGB", (len(columns) * (CELL + _GAP) + _GAP, grid_height), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((_GAP, 1), title, "black")
    for x, (name, images) in enumerate(columns):
        left = _GAP + x * (CELL + _GAP)
        pen.text((left, 1 + _LINE), f"{name}, {images[0].shape[-1]} px" if x else name, "dimgray")
        for y, image in enumerate(images):
            picture.paste(thumbnail(image), (left, 2 * _LINE + _GAP + y * (CELL + _GAP)))
    return picture


def pixels(view: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Undoes the normalization of a view (N, C, H, W), with one mean and std or one per channel: uint8 (N, C, H, W)."""
    shift, scale = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (mean, std))
    return (view.cpu() * scale + shift).clamp(0, 1).mul(255).round().byte()


def thumbnail(image: Tensor, side: int = CELL, ground: str = "white") -> Image.Image:
    """Draws an image (C, H, W), uint8 or in [0, 1], in a square of `side` pixels with margins of the color `ground`.

    Small images are enlarged without smoothing. If there are more than three channels, the first three are drawn.
    """
    if image.is_floating_point():
        image = image.clamp(0, 1).mul(255).round().byte()
    rgb = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    picture = Image.fromarray(np.ascontiguousarray(rgb.permute(1, 2, 0).numpy()))
    longest = max(picture.size)
    filtering = Image.Resampling.NEAREST if longest <= side else Image.Resampling.LANCZOS
    picture = picture.resize([max(1, round(length * side / longest)) for length in picture.size], filtering)
    cell = Image.new("RGB", (side, side), ground)
    cell.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return cell
