"""Random parameters of the augmentations, drawn on the CPU so that a seed gives the same views on every device."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from ssl_lib.distributed import rank
from ssl_lib.utils.warn_once import warn_once
from ssl_lib.views import color, functional
from ssl_lib.views.config import ViewConfig
from ssl_lib.views.random_apply import Stage

__all__ = ["NUMBERS", "RandomNumbers", "draw_boxes", "draw_erased", "draw_stages", "draw_turns"]

NUMBERS = 72
"""Maximum number of random numbers drawn for one view of one image."""

_TRIES = 10  # candidate boxes per image, as in torchvision's RandomResizedCrop and RandomErasing
_JITTERS = (color.brightness_, color.contrast_, color.saturation_, color.hue_)


class RandomNumbers:
    """Random numbers in [0, 1) for one view of a batch, one row per image.

    Every draw consumes its columns, even if they are not used. Therefore changing the settings of one operation does
    not change the draws of the others, and the parameters of an image do not depend on the rest of the batch.

    Args:
        rows: (N, NUMBERS), float64, on the CPU.
    """

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows
        self._taken = 0

    def table(self, columns: int) -> Tensor:
        """Returns the next `columns` numbers of each image, (N, columns)."""
        start, self._taken = self._taken, self._taken + columns
        assert self._taken <= self._rows.shape[1], "a view draws more than NUMBERS random numbers"
        return self._rows[:, start : self._taken]

    def uniform(self, low: float, high: float) -> Tensor:
        """Draws one number per image in [low, high), (N,)."""
        return self.table(1)[:, 0] * (high - low) + low

    def chance(self, probability: float) -> Tensor:
        """Draws one boolean per image, (N,), true with the given probability."""
        return self.table(1)[:, 0] < probability


def draw_boxes(
    numbers: RandomNumbers, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Draws the crop boxes of a batch with the distribution of torchvision's RandomResizedCrop.

    Each image gets the first of ten candidates that fits inside it. The area is uniform in `scale`, the logarithm of
    width / height is uniform in `ratio`. If no candidate fits, the box is the largest central crop with an allowed
    ratio.

    Args:
        numbers: Random numbers of N images.
        height: Image height in pixels.
        width: Image width in pixels.
        scale: Smallest and largest fraction of the image area.
        ratio: Smallest and largest width / height.

    Returns:
        (N, 4), integers: top, left, height, width.
    """
    limit = torch.tensor([height, width])
    sizes = _draw_sizes(numbers, height * width, scale, ratio)
    fits = ((sizes > 0) & (sizes <= limit)).all(dim=2)  # (N, tries)
    return torch.where(
        fits.any(1, keepdim=True), _place(numbers, sizes, fits, limit), _central_box(height, width, ratio)
    )


def draw_erased(numbers: RandomNumbers, config: ViewConfig) -> Tensor:
    """Draws the boxes to erase with the distribution of torchvision's RandomErasing.

    Each image gets the first of ten candidates that fits inside it. If none fits, or if the image is not selected,
    the box is empty.

    Returns:
        (N, 4), integers: top, left, height, width. All four are 0 for an empty box.
    """
    limit = torch.tensor([config.size, config.size])
    mask = numbers.chance(config.erase_p)
    sizes = _draw_sizes(numbers, config.size**2, config.erase_scale, config.erase_ratio).flip(2)  # height / width here
    fits = (sizes < limit).all(dim=2)
    boxes = _place(numbers, sizes, fits, limit)
    return boxes * (mask & fits.any(1)).unsqueeze(1)


def draw_turns(config: ViewConfig, numbers: RandomNumbers) -> list[Stage]:
    """Draws flips and rotations by 90, 180 or 270 degrees. They only move pixels, so uint8 images are fine too."""
    flip, vertical_flip = numbers.chance(config.flip_p), numbers.chance(config.vertical_flip_p)
    turned, quarters = numbers.chance(config.turn_p), numbers.uniform(0, 3).long()  # 0 to 2: one to three quarter turns
    turns = [partial(_turn, quarters=quarters) for quarters in (1, 2, 3)]
    return [
        Stage.single(lambda images, _: images.flip(-1), flip),
        Stage.single(lambda images, _: images.flip(-2), vertical_flip),
        Stage.of(turns, quarters.masked_fill(~turned, 3)),
    ]


def draw_stages(config: ViewConfig, numbers: RandomNumbers, channels: int) -> list[Stage]:
    """Draws the operations on float images: rotation, jitter in random order, grayscale, blur, solarize, posterize.

    Args:
        config: The view.
        numbers: Random numbers of N images.
        channels: Number of image channels. Images that are not RGB skip saturation, hue and grayscale; a warning says
            so once if they are not gray either.
    """
    changes_color = config.grayscale_p > 0 or (config.jitter_p > 0 and max(config.jitter[2:]) > 0)
    if changes_color and channels not in (1, 3) and rank() == 0:
        warn_once(
            f"images have {channels} channels, so saturation, hue and grayscale are left out of the views: they need "
            "RGB. To hide this warning, set views.grayscale_p=0 and the last two strengths of views.jitter to 0"
        )
    single, chance, uniform = Stage.single, numbers.chance, numbers.uniform
    blur = partial(functional.gaussian_blur, kernel_size=config.kernel_size)
    return [
        single(functional.rotate, chance(config.rotate_p), uniform(-config.rotate_degrees, config.rotate_degrees)),
        *_jitter_stages(config, numbers, channels),
        single(_grayscale, chance(config.grayscale_p if channels == 3 else 0.0), fusible=True),
        single(blur, chance(config.blur_p), uniform(*config.blur_sigma)),
        single(color.solarize_, chance(config.solarize_p), config.solarize_threshold, fusible=True),
        single(color.posterize_, chance(config.posterize_p), config.posterize_bits, fusible=True),
    ]


def _draw_sizes(numbers: RandomNumbers, area: int, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Draws heights and widths of candidate boxes, (N, tries, 2): uniform area fraction and log of width / height."""
    fraction = numbers.table(_TRIES) * (scale[1] - scale[0]) + scale[0]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (numbers.table(_TRIES) * (high - low) + low).exp()
    return torch.stack(((fraction * area / aspect).sqrt(), (fraction * area * aspect).sqrt()), dim=2).round().long()


def _place(numbers: RandomNumbers, sizes: Tensor, fits: Tensor, limit: Tensor) -> Tensor:
    """Places the first size that fits uniformly inside the image; returns boxes (N, 4)."""
    chosen = sizes[torch.arange(len(sizes)), fits.int().argmax(dim=1)]  # (N, 2)
    starts = (numbers.table(2) * (limit - chosen + 1)).long()
    return torch.cat((starts, chosen), dim=1)


def _central_box(height: int, width: int, ratio: tuple[float, float]) -> Tensor:
    box_height = min(height, max(1, round(width / ratio[0])))
    box_width = min(width, max(1, round(height * ratio[1])))
    return torch.tensor([(height - box_height) // 2, (width - box_width) // 2, box_height, box_width])


def _jitter_stages(config: ViewConfig, numbers: RandomNumbers, channels: int) -> list[Stage]:
    """Draws up to four stages: brightness, contrast, saturation and hue in a random order per image."""
    *strengths, hue = config.jitter
    bounds = [(max(0.0, 1 - strength), 1 + strength) for strength in strengths] + [(-hue, hue)]
    mask = numbers.chance(config.jitter_p)
    sort_keys, factors = numbers.table(4), torch.stack([numbers.uniform(*pair) for pair in bounds], dim=1)
    active = [index for index in range(4 if channels == 3 else 2) if config.jitter[index] > 0]
    operations = tuple(_JITTERS[index] for index in active)
    order = sort_keys[:, active].argsort(dim=1)  # the operation at each position
    factors = factors[:, active].gather(1, order)
    order = order.masked_fill(~mask.unsqueeze(1), len(active))
    return [
        Stage.of(operations, order[:, position], factors[:, position], fusible=True) for position in range(len(active))
    ]


def _turn(images: Tensor, _: Tensor, quarters: int) -> Tensor:
    return images.rot90(quarters, (-2, -1))


def _grayscale(images: Tensor, _: Tensor) -> Tensor:
    return color.grayscale_(images)
