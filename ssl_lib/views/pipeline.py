"""From uint8 images to normalized views, in batches, on the device of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from ssl_lib.types import Views
from ssl_lib.views import resample
from ssl_lib.views.color import channel_statistics
from ssl_lib.views.config import ViewConfig
from ssl_lib.views.random_apply import run_stages
from ssl_lib.views.sampling import NUMBERS, RandomNumbers, draw_boxes, draw_erased, draw_stages, draw_turns

__all__ = ["ViewPipeline"]

_CACHED_PIXELS = 2**17  # of the images worked on at a time on the CPU
_SMALL = 32  # sides up to which batched products crop faster than the CPU's kernel for bytes, image by image


class ViewPipeline:
    """Makes the views of a batch: crop, resize, flips and turns, colors, blur, normalize, erase; see `ViewConfig`.

    Every image has its own random parameters. They come from the CPU's generator, so that the same seed gives the
    same views on any device, and an operation runs only on the images that drew it, without waiting for the device.
    On the CPU images of more than 32 px a side are cropped as uint8, as torchvision crops them; smaller ones, and all
    on other devices, are cropped as floats, without the rounding.

    Two ways in. Images of one size go in as one batch and are cropped here. Images of mixed sizes are cropped one by
    one with `crop`, by the worker that decodes them, and go in as a tuple with one batch per view.

    Args:
        configs: The views; those of the largest size become `Views.large`, the others `Views.small`.
        mean: Per channel or one for all, of pixels in [0, 1]; subtracted at the end.
        std: Likewise; divided by at the end.

    Attributes:
        views: One config per view, each with `count` 1.
        size: Side of the large views in pixels.
        mean: As given.
        std: As given.

    Raises:
        TypeError: The views are no list of `ViewConfig`.
        ValueError: There is no view, or mean and std do not suit pixels in [0, 1].
    """

    def __init__(self, configs: Sequence[ViewConfig], mean: Sequence[float], std: Sequence[float]) -> None:
        if not isinstance(configs, Sequence) or not all(isinstance(config, ViewConfig) for config in configs):
            raise TypeError(
                f"ViewPipeline takes a list of ViewConfig, such as presets.simclr(size=32), got {configs!r}"
            )
        self.views = tuple(replace(config, count=1) for config in configs for _ in range(config.count))
        if not self.views:
            raise ValueError("ViewPipeline needs at least one ViewConfig")
        self.size = max(view.size for view in self.views)
        self.mean, self.std = tuple(mean), tuple(std)
        good = self.mean and self.std and min(self.mean) >= 0 and max(self.mean) <= 1
        if not good or not 0 < min(self.std) <= max(self.std) <= 1:
            raise ValueError(
                "mean and std need a number per channel or one for all, of pixels in [0, 1], std positive; "
                f"got {mean} and {std}; divide those of uint8 by 255"
            )
        self._compiled = False

    def compile(self) -> None:
        """Has the color operations on CUDA fused by torch.compile: the same views, but for the last digits.

        The first batches take longer, as one function is compiled for each kind and size of view. On the CPU nothing
        changes: there, working on the images that drew an operation is faster.
        """
        self._compiled = True

    @torch.no_grad()
    def __call__(
        self, images: Tensor | Sequence[Tensor], generator: Generator | None = None, numbers: Tensor | None = None
    ) -> Views:
        """Makes the views.

        Args:
            images: uint8 (N, C, H, W), fastest in channels_last memory; or one uint8 (N, C, size, size) per view, as
                stacked from `crop`, which is neither cropped nor resized again.
            generator: On the CPU; None takes torch's default one. A batch in parts, one after the other, makes the
                same views as the whole.
            numbers: The images' rows of what `draw` gave, in place of a generator.

        Returns:
            Views of (N, C, size, size), float32, without labels and indices.

        Raises:
            ValueError: The images are not uint8 batches of the right shapes, the generator is not on the CPU, or
                color operations or mean and std do not fit the number of channels.
        """
        cropped = not isinstance(images, Tensor)
        sources = (images,) if isinstance(images, Tensor) else tuple(images)
        self._check(sources, cropped)
        if not cropped:
            as_bytes = sources[0].device.type == "cpu" and max(sources[0].shape[-2:]) > _SMALL
            sources = (sources[0] if as_bytes else _to_floats(sources[0]),) * len(self.views)
        rows = self.draw(len(sources[0]), generator) if numbers is None else numbers
        if rows.shape != (len(sources[0]), len(self.views), NUMBERS):
            raise ValueError(f"{len(sources[0])} images need as many rows of `draw`, got {tuple(rows.shape)}")
        with torch.autocast(sources[0].device.type, enabled=False):
            made = [
                self._make(source, view, cropped, RandomNumbers(row))
                for source, view, row in zip(sources, self.views, rows.unbind(1), strict=True)
            ]
        pairs = list(zip(self.views, made, strict=True))
        return Views(
            large=tuple(images for view, images in pairs if view.size == self.size),
            small=tuple(images for view, images in pairs if view.size < self.size),
        )

    def draw(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draws the random numbers behind the views of a batch: (count, views, NUMBERS) in [0, 1), float64.

        Several processes draw those of the joined batch and take their own rows: they make the views of a single one.
        """
        _check_generator(generator)
        return torch.rand(count, len(self.views), NUMBERS, generator=generator, dtype=torch.float64)

    def crop(self, image: Tensor, generator: Generator | None = None) -> tuple[Tensor, ...]:
        """Crops one image of any size for every view, as torchvision's RandomResizedCrop.

        Args:
            image: uint8 (C, H, W), on the CPU, fastest in channels_last memory.
            generator: On the CPU; None takes torch's default one.

        Returns:
            One uint8 (C, size, size) per view.

        Raises:
            ValueError: The image is not uint8 (C, H, W), or the generator is not on the CPU.
        """
        if image.dtype != torch.uint8 or image.ndim != 3:
            raise ValueError(f"crop takes one uint8 image (C, H, W), got {image.dtype} {tuple(image.shape)}")
        rows = self.draw(1, generator)
        height, width = image.shape[-2:]
        crops = []
        for view, numbers in zip(self.views, rows.unbind(1), strict=True):
            boxes = draw_boxes(RandomNumbers(numbers), height, width, view.crop_scale, view.crop_ratio)
            crops.append(resample.resized_crop_bytes(image[None], boxes, view.size, view.interpolation == "bicubic")[0])
        return tuple(crops)

    def _make(self, source: Tensor, view: ViewConfig, cropped: bool, numbers: RandomNumbers) -> Tensor:
        """One view of all images, in parts small enough for the processor's cache."""
        count, channels, height, width = source.shape
        boxes = draw_boxes(numbers, height, width, view.crop_scale, view.crop_ratio)
        turns, stages = draw_turns(view, numbers), draw_stages(view, numbers, channels)
        erased = draw_erased(numbers, view)
        shape = (count, channels, view.size, view.size)
        made = torch.empty(shape, device=source.device, memory_format=torch.channels_last)
        shift, scale = channel_statistics(made, self.mean, self.std)
        step = max(1, _CACHED_PIXELS // view.size**2) if source.device.type == "cpu" else count
        for part in [slice(start, start + step) for start in range(0, count, step)]:
            images = source[part].clone() if cropped else _crop(source[part], boxes[part], view)
            images = run_stages([stage.part(part) for stage in turns], images)
            images = images if images.is_floating_point() else _to_floats(images)
            images = run_stages([stage.part(part) for stage in stages], images, self._compiled and images.is_cuda)
            made[part] = images.sub_(shift).div_(scale)
        if view.erase_p > 0:
            resample.erase_(made, erased.to(made.device, non_blocking=True), 0.0)
        return made

    def _check(self, batches: tuple[Tensor, ...], cropped: bool) -> None:
        for batch in batches:
            if batch.dtype != torch.uint8 or batch.ndim != 4:
                raise ValueError(
                    f"views are made of uint8 images (N, C, H, W) in [0, 255], got {batch.dtype} {tuple(batch.shape)}"
                )
        if cropped:
            sizes = [view.size for view in self.views]
            wanted = [(*batches[0].shape[:2], size, size) for size in sizes] if batches else sizes
            got = [tuple(batch.shape) for batch in batches]
            if got != wanted:
                raise ValueError(f"expected one batch per view, of the shapes {wanted}, got {got}")


def _crop(images: Tensor, boxes: Tensor, view: ViewConfig) -> Tensor:
    """Bytes to bytes, or floats to floats."""
    cubic = view.interpolation == "bicubic"
    if images.dtype == torch.uint8:
        return resample.resized_crop_bytes(images, boxes, view.size, cubic)
    made = resample.resized_crop(images, boxes.to(images.device, non_blocking=True), view.size, cubic)
    return made.clamp_(0, 1) if cubic else made


def _to_floats(images: Tensor) -> Tensor:
    """Planes of floats in [0, 1], in memory of their own."""
    return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def _check_generator(generator: Generator | None) -> None:
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(f"random parameters are drawn on the CPU; pass a CPU generator, not {generator.device}")
