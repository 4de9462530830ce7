"""Random parameters of the views: drawn on the CPU, one set per image, so that a seed means the same on any device."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from ssl_lib.views import color, resample
from ssl_lib.views.config import ViewConfig
from ssl_lib.views.random_apply import Stage

__all__ = ["NUMBERS", "RandomNumbers", "draw_boxes", "draw_erased", "draw_stages", "draw_turns"]

NUMBERS = 72
"""Random numbers that one view of one image takes, at most."""

_TRIES = 10  # as torchvision's RandomResizedCrop and RandomErasing
_JITTERS = (color.brightness_, color.contrast_, color.saturation_, color.hue_)


class RandomNumbers:
    """Random numbers in [0, 1) for one view of a batch, a row per image.

    Every draw takes its columns whether they are used or not: what one operation is told does not shift the others,
    and an image's parameters do not depend on the images beside it.

    Args:
        rows: (N, NUMBERS), float64, on the CPU.
    """

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows
        self._taken = 0

    def __len__(self) -> int:
        return len(self._rows)

    def table(self, columns: int) -> Tensor:
        """Takes numbers (N, columns)."""
        start, self._taken = self._taken, self._taken + columns
        assert self._taken <= self._rows.shape[1], "more numbers drawn than a view has"
        return self._rows[:, start : self._taken]

    def uniform(self, low: float, high: float) -> Tensor:
        """Draws (N,) in [low, high)."""
        return self.table(1)[:, 0] * (high - low) + low

    def chance(self, probability: float) -> Tensor:
        """Draws booleans (N,), each true with the given probability."""
        return self.table(1)[:, 0] < probability


def draw_boxes(
    numbers: RandomNumbers, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Draws crops as torchvision's RandomResizedCrop does, for a batch at once.

    The first of ten tries that fits is taken: area uniform in `scale`, log of width / height uniform in `ratio`. If
    none fits, the largest central crop whose ratio is allowed.

    Args:
        numbers: Of N images.
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        scale: Smallest and largest share of the area.
        ratio: Smallest and largest width / height.

    Returns:
        (N, 4) whole numbers: top, left, height, width.
    """
    limit = torch.tensor([height, width])
    sizes = _draw_sizes(numbers, height * width, scale, ratio)
    fits = ((sizes > 0) & (sizes <= limit)).all(dim=2)  # (N, tries)
    return torch.where(fits.any(1, keepdim=True), _place(numbers, sizes, fits, limit), _central(height, width, ratio))


def draw_erased(numbers: RandomNumbers, config: ViewConfig) -> Tensor:
    """Draws boxes to erase as torchvision's RandomErasing does; of no size where nothing is to be erased.

    The first of ten tries that fits is taken; if none fits, nothing is erased.

    Returns:
        (N, 4) whole numbers: top, left, height, width.
    """
    limit = torch.tensor([config.size, config.size])
    mask = numbers.chance(config.erase_p)
    sizes = _draw_sizes(numbers, config.size**2, config.erase_scale, config.erase_ratio).flip(2)  # height / width here
    fits = (sizes < limit).all(dim=2)
    boxes = _place(numbers, sizes, fits, limit)
    return boxes * (mask & fits.any(1)).unsqueeze(1)


def draw_turns(config: ViewConfig, numbers: RandomNumbers) -> list[Stage]:
    """Draws flips and quarter turns, which move pixels and leave their values: uint8 or floats."""
    flip, vertical_flip = numbers.chance(config.flip_p), numbers.chance(config.vertical_flip_p)
    turned, quarters = numbers.chance(config.turn_p), numbers.uniform(0, 3).long()  # one, two or three of them
    turns = [partial(_turn, quarters=quarters) for quarters in (1, 2, 3)]
    return [
        Stage.single(_flip, flip),
        Stage.single(_flip_vertically, vertical_flip),
        Stage.of(turns, quarters.masked_fill(~turned, 3)),
    ]


def draw_stages(config: ViewConfig, numbers: RandomNumbers, channels: int) -> list[Stage]:
    """Draws what changes values: rotation, jitter in random order, grayscale, blur, solarize, posterize.

    Args:
        config: The view.
        numbers: Of N images.
        channels: Of the images. One channel has no color, so that saturation, hue and grayscale fall away.

    Raises:
        ValueError: The view changes colors and the images have neither 1 nor 3 channels.
    """
    colorful = config.grayscale_p > 0 or (config.jitter_p > 0 and max(config.jitter[2:]) > 0)
    if colorful and channels not in (1, 3):
        raise ValueError(
            f"images have {channels} channels, and saturation, hue and grayscale are defined for 1 or 3: set "
            "grayscale_p to 0 and the last two strengths of jitter to 0"
        )
    one = Stage.single
    return [
        one(_rotate, numbers.chance(config.rotate_p), numbers.uniform(-config.rotate_degrees, config.rotate_degrees)),
        *_jitter_stages(config, numbers, channels),
        one(_grayscale, numbers.chance(config.grayscale_p if channels == 3 else 0.0), fusible=True),
        one(
            partial(_blur, taps=config.kernel_size), numbers.chance(config.blur_p), numbers.uniform(*config.blur_sigma)
        ),
        one(partial(_solarize, threshold=config.solarize_threshold), numbers.chance(config.solarize_p), fusible=True),
        one(partial(_posterize, bits=config.posterize_bits), numbers.chance(config.posterize_p), fusible=True),
    ]


def _draw_sizes(numbers: RandomNumbers, area: int, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Heights and widths (N, tries, 2) of boxes: share of the area uniform, log of width / height uniform."""
    share = numbers.table(_TRIES) * (scale[1] - scale[0]) + scale[0]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = (numbers.table(_TRIES) * (high - low) + low).exp()
    return torch.stack(((share * area / shape).sqrt(), (share * area * shape).sqrt()), dim=2).round().long()


def _place(numbers: RandomNumbers, sizes: Tensor, fits: Tensor, limit: Tensor) -> Tensor:
    """Boxes (N, 4) of the first size that fits, anywhere inside the image."""
    chosen = sizes[torch.arange(len(sizes)), fits.int().argmax(dim=1)]  # (N, 2)
    starts = (numbers.table(2) * (limit - chosen + 1)).long()
    return torch.cat((starts, chosen), dim=1)


def _central(height: int, width: int, ratio: tuple[float, float]) -> Tensor:
    box_height = min(height, max(1, round(width / ratio[0])))
    box_width = min(width, max(1, round(height * ratio[1])))
    return torch.tensor([(height - box_height) // 2, (width - box_width) // 2, box_height, box_width])


def _jitter_stages(config: ViewConfig, numbers: RandomNumbers, channels: int) -> list[Stage]:
    """At each of up to four places, one of brightness, contrast, saturation and hue."""
    *strengths, hue = config.jitter
    bounds = [(max(0.0, 1 - strength), 1 + strength) for strength in strengths] + [(-hue, hue)]
    mask = numbers.chance(config.jitter_p)
    places, factors = numbers.table(4), torch.stack([numbers.uniform(*pair) for pair in bounds], dim=1)
    active = [index for index in range(4 if channels == 3 else 2) if config.jitter[index] > 0]
    operations = tuple(_JITTERS[index] for index in active)
    order = places[:, active].argsort(dim=1)  # the operation at each place
    factors = factors[:, active].gather(1, order)
    order = order.masked_fill(~mask.unsqueeze(1), len(active))
    return [Stage.of(operations, order[:, place], factors[:, place], fusible=True) for place in range(len(active))]


def _flip(images: Tensor, _: Tensor) -> None:
    images.copy_(images.flip(-1))


def _flip_vertically(images: Tensor, _: Tensor) -> None:
    images.copy_(images.flip(-2))


def _turn(images: Tensor, _: Tensor, quarters: int) -> None:
    images.copy_(images.rot90(quarters, (-2, -1)))


def _rotate(images: Tensor, angle: Tensor) -> None:
    images.copy_(resample.rotate(images, angle))


def _grayscale(images: Tensor, _: Tensor) -> None:
    color.grayscale_(images)


def _blur(images: Tensor, sigma: Tensor, taps: int) -> None:
    images.copy_(resample.gaussian_blur(images, sigma, taps))


def _solarize(images: Tensor, _: Tensor, threshold: float) -> None:
    color.solarize_(images, threshold)


def _posterize(images: Tensor, _: Tensor, bits: int) -> None:
    color.posterize_(images, images.new_full((len(images), 1, 1, 1), bits))
