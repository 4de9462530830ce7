"""Random parameters of the views: drawn on the CPU, one set per image, so that a seed means the same on any device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

from ssl_lib.views import color, resample
from ssl_lib.views.config import ViewConfig

__all__ = ["Stage", "draw_boxes", "draw_mask", "draw_stages", "run_stages", "single_stage"]

Operation = Callable[[Tensor, Tensor], object]

_TRIES = 10  # as torchvision's RandomResizedCrop
_JITTERS = (color.brightness_, color.contrast_, color.saturation_, color.hue_)


@dataclass(frozen=True)
class Stage:
    """For each image of a batch, one of several operations or none.

    Attributes:
        operations: Each takes images (n, C, H, W) and their values (n, 1, 1, 1), and changes the images in place.
        choice: Per image (N,), the index of its operation in `operations`, or their number for none.
        value: Per image (N,), the operation's parameter; ones where it has none.
    """

    operations: tuple[Operation, ...]
    choice: Tensor
    value: Tensor


def draw_boxes(
    count: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: Generator | None = None,
) -> Tensor:
    """Draws crops as torchvision's RandomResizedCrop does, for a batch at once.

    The first of ten tries that fits is taken: area uniform in `scale`, log of width / height uniform in `ratio`. If
    none fits, the largest central crop whose ratio is allowed.

    Args:
        count: Number of images N.
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        scale: Smallest and largest share of the area.
        ratio: Smallest and largest width / height.
        generator: On the CPU.

    Returns:
        (N, 4) whole numbers: top, left, height, width.
    """
    area = _uniform((count, _TRIES), scale, generator) * (height * width)
    shape = _uniform((count, _TRIES), (math.log(ratio[0]), math.log(ratio[1])), generator).exp()
    sizes = torch.stack(((area / shape).sqrt(), (area * shape).sqrt()), dim=2).round().long()  # (N, tries, 2)
    limit = torch.tensor([height, width])
    fits = ((sizes > 0) & (sizes <= limit)).all(dim=2)  # (N, tries)
    first = fits.int().argmax(dim=1)
    sizes = sizes[torch.arange(count), first]
    room = _uniform((count, 2), (0, 1), generator)
    starts = (room * (limit - sizes + 1)).long()
    boxes = torch.cat((starts, sizes), dim=1)
    return torch.where(fits.any(dim=1, keepdim=True), boxes, _central_box(height, width, ratio))


def draw_mask(count: int, probability: float, generator: Generator | None = None) -> Tensor:
    """Draws booleans (count,), each true with the given probability."""
    return _uniform((count,), (0, 1), generator) < probability


def draw_stages(config: ViewConfig, count: int, channels: int, generator: Generator | None = None) -> list[Stage]:
    """Draws the photometric operations of one view: jitter in random order, grayscale, blur, solarize.

    Args:
        config: The view.
        count: Number of images.
        channels: Of the images. One channel has no colour, so that saturation, hue and grayscale fall away.
        generator: On the CPU.

    Raises:
        ValueError: The view changes colours and the images have neither 1 nor 3 channels.
    """
    colorful = config.grayscale_p > 0 or (config.jitter_p > 0 and max(config.jitter[2:]) > 0)
    if colorful and channels not in (1, 3):
        raise ValueError(
            f"images have {channels} channels, and saturation, hue and grayscale are defined for 1 or 3: set "
            "grayscale_p to 0 and the last two strengths of jitter to 0"
        )
    blur = partial(_blur, kernel_size=config.kernel_size)
    sigma = _uniform((count,), config.blur_sigma, generator)
    solarize = partial(_solarize, threshold=config.solarize_threshold)
    return [
        *_jitter_stages(config, count, channels, generator),
        single_stage(_grayscale, draw_mask(count, config.grayscale_p if channels == 3 else 0.0, generator)),
        single_stage(blur, draw_mask(count, config.blur_p, generator), sigma),
        single_stage(solarize, draw_mask(count, config.solarize_p, generator)),
    ]


def single_stage(operation: Operation, mask: Tensor, value: Tensor | None = None) -> Stage:
    """A stage of one operation, for the images of `mask` (N,)."""
    value = torch.ones(len(mask), dtype=torch.float64) if value is None else value
    return Stage((operation,), (~mask).long(), value)


def run_stages(stages: Sequence[Stage], images: Tensor) -> Tensor:
    """Applies the stages in turn.

    For each stage the batch is rearranged so that the images of one operation are neighbours: on the CPU moving whole
    images is far cheaper than writing them back by index, and on CUDA nothing waits, as the host knows the counts.

    Args:
        stages: On the CPU.
        images: (N, C, H, W), floats; used as scratch space.

    Returns:
        (N, C, H, W), in the order of `images`.
    """
    stages = [stage for stage in stages if (stage.choice < len(stage.operations)).any()]
    if not stages:
        return images
    slots = torch.arange(len(images))  # where each image is
    moves, values = [], []
    for stage in stages:
        order = stage.choice.argsort(stable=True)
        moves.append(slots[order])
        values.append(stage.value[order])
        slots = order.argsort()
    moves_there = torch.stack([*moves, slots]).to(images.device, non_blocking=True)
    values_there = torch.stack(values).to(images, non_blocking=True).view(len(stages), -1, 1, 1, 1)
    spare = torch.empty_like(images)
    for stage, move, value in zip(stages, moves_there[:-1], values_there, strict=True):
        images, spare = torch.index_select(images, 0, move, out=spare), images
        start = 0
        counts = stage.choice.bincount(minlength=len(stage.operations))
        for operation, count in zip(stage.operations, counts.tolist(), strict=False):
            if count:
                operation(images[start : start + count], value[start : start + count])
            start += count
    return torch.index_select(images, 0, moves_there[-1], out=spare)


def _jitter_stages(config: ViewConfig, count: int, channels: int, generator: Generator | None) -> list[Stage]:
    *strengths, hue = config.jitter
    bounds = [(max(0.0, 1 - strength), 1 + strength) for strength in strengths] + [(-hue, hue)]
    known = list(zip(_JITTERS, bounds, config.jitter, strict=True))[: 4 if channels == 3 else 2]
    active = [(operation, bounds) for operation, bounds, strength in known if strength > 0]
    if not active:
        return []
    operations = tuple(operation for operation, _ in active)
    skipped = ~draw_mask(count, config.jitter_p, generator)
    order = _uniform((count, len(active)), (0, 1), generator).argsort(dim=1)  # the operation at each place
    factors = torch.stack([_uniform((count,), bounds, generator) for _, bounds in active], dim=1).gather(1, order)
    order = order.masked_fill(skipped.unsqueeze(1), len(active))
    return [Stage(operations, order[:, place], factors[:, place]) for place in range(len(active))]


def _uniform(shape: tuple[int, ...], bounds: tuple[float, float], generator: Generator | None) -> Tensor:
    low, high = bounds
    return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low


def _central_box(height: int, width: int, ratio: tuple[float, float]) -> Tensor:
    box_height = min(height, max(1, round(width / ratio[0])))
    box_width = min(width, max(1, round(height * ratio[1])))
    return torch.tensor([(height - box_height) // 2, (width - box_width) // 2, box_height, box_width])


def _grayscale(images: Tensor, _: Tensor) -> None:
    color.grayscale_(images)


def _blur(images: Tensor, sigma: Tensor, kernel_size: int) -> None:
    images.copy_(resample.gaussian_blur(images, sigma, kernel_size))


def _solarize(images: Tensor, _: Tensor, threshold: float) -> None:
    color.solarize_(images, threshold)
