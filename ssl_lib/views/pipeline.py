"""Pipeline that turns a batch of uint8 images into normalized augmented views, on the device of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ssl_lib.types import Batch, Views
from ssl_lib.views import functional
from ssl_lib.views._checks import check_unit_range
from ssl_lib.views.color import channel_statistics, to_floats
from ssl_lib.views.config import ViewConfig
from ssl_lib.views.random_apply import run_stages
from ssl_lib.views.resample import resized_crop_bytes
from ssl_lib.views.sampling import NUMBERS, RandomNumbers, draw_boxes, draw_erased, draw_stages, draw_turns

__all__ = ["ViewPipeline"]

_CACHED_PIXELS = 2**17  # pixels processed at a time on the CPU, so that they stay in its cache
_DTYPES = (torch.uint8, torch.float32)  # floats are in [0, 1]
_SMALL = 32  # up to this side, batched matrix products crop faster than the CPU's uint8 kernel, image by image


class ViewPipeline:
    """Makes augmented views of a batch: crop, flips, rotation, color, blur, normalize, erase; see `ViewConfig`.

    Every image has its own random parameters. They are drawn on the CPU, so a seed gives the same views on every
    device. An operation runs only on the images that it is drawn for, without synchronizing with the device. On the
    CPU, images larger than 32 x 32 are cropped as uint8, as torchvision does. Smaller images, and all images on other
    devices, are cropped as floats, without rounding.

    There are two kinds of input. Images of one size are passed as one batch, and the pipeline crops them. Images of
    different sizes are cropped one by one with `crop`, in the worker that decodes them, and are passed as a tuple with
    one batch per view.

    Args:
        configs: The views. Views of the largest size become `Views.large`, the others `Views.small`.
        mean: Mean of pixels in [0, 1], per channel or one for all.
        std: Standard deviation of pixels in [0, 1], per channel or one for all.

    Attributes:
        views: One config per view, each with `count` 1.
        size: Side of the large views in pixels.
        mean: The argument `mean`.
        std: The argument `std`.

    Raises:
        TypeError: `configs` is not a list of `ViewConfig`.
        ValueError: `configs` is empty, or mean or std is out of range for pixels in [0, 1].
    """

    def __init__(
        self, configs: Sequence[ViewConfig], mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> None:
        if not isinstance(configs, Sequence) or not all(isinstance(config, ViewConfig) for config in configs):
            raise TypeError(
                f"ViewPipeline expects a list of ViewConfig, such as presets.simclr(size=32), got {configs!r}"
            )
        self.views = tuple(replace(config, count=1) for config in configs for _ in range(config.count))
        if not self.views:
            raise ValueError("ViewPipeline needs at least one ViewConfig")
        self.size = max(view.size for view in self.views)
        if mean is None or std is None:
            raise ValueError("the images have no mean and std: compute them with data.pixel_statistics(images)")
        self.mean, self.std = tuple(mean), tuple(std)
        valid = self.mean and self.std and min(self.mean) >= 0 and max(self.mean) <= 1
        if not valid or not 0 < min(self.std) <= max(self.std) <= 1:
            raise ValueError(
                "mean and std need one value per channel or one for all, for pixels in [0, 1], with std positive; "
                f"got {mean} and {std}; divide the statistics of uint8 pixels by 255"
            )
        self._compiled = False

    partners: ClassVar[int] = 0
    """Number of further items that an item is mixed with: none, as a view is made of one image. `Loader` reads none."""

    def shapes(self, channels: int) -> tuple[tuple[int, int, int], ...]:
        """The shape (C, size, size) of each view, in the order of `views`."""
        return tuple((channels, view.size, view.size) for view in self.views)

    def blank(self, count: int, channels: int) -> Views:
        """Views of `count` black images, for a dry run; their random parameters are fixed."""
        images = [torch.zeros(count, *shape, dtype=torch.uint8) for shape in self.shapes(channels)]
        return self(images, torch.Generator().manual_seed(0))

    def compile(self) -> None:
        """Fuses the color operations on CUDA with torch.compile. The views are equal up to rounding errors.

        The first batches take longer, because one function is compiled per view config and size. Nothing changes on
        the CPU, where it is faster to run an operation only on the images that it is drawn for.
        """
        self._compiled = True

    @torch.no_grad()
    def __call__(self, batch: Batch | Tensor | Sequence[Tensor], generator: Generator | None = None) -> Views:
        """Makes the views.

        Args:
            batch: A loader's batch; or images (N, C, H, W), fastest in channels_last memory format; or one
                (N, C, size, size) per view, stacked results of `crop`, which are not cropped or resized again. Images
                are uint8, or float32 in [0, 1].
            generator: CPU generator, if the batch does not carry its random numbers; None uses torch's default
                generator. Calls on consecutive parts of a batch with one generator give the same views as one call on
                the whole batch.

        Returns:
            Views (N, C, size, size), float32, channels_last, with the batch's labels and indices.

        Raises:
            ValueError: The images are not uint8 batches of the expected shapes, the generator is not on the CPU, or
                the color operations, mean or std do not fit the number of channels.
        """
        if not isinstance(batch, Batch):
            images = batch if isinstance(batch, Tensor) else tuple(batch)
            batch = Batch(images, labels=None, indices=torch.empty(0, dtype=torch.int64))
        cropped = not isinstance(batch.images, Tensor)
        sources = (batch.images,) if isinstance(batch.images, Tensor) else batch.images
        self._check(sources, cropped)
        count = len(sources[0])
        if not cropped:
            as_bytes = sources[0].device.type == "cpu" and max(sources[0].shape[-2:]) > _SMALL
            sources = (sources[0] if as_bytes else to_floats(sources[0], torch.contiguous_format),) * len(self.views)
        rows = self.draw(count, generator) if batch.numbers is None else batch.numbers
        if rows.shape != (count, len(self.views), NUMBERS):
            raise ValueError(f"numbers must have the shape of `draw({count})`, got {tuple(rows.shape)}")
        with torch.autocast(sources[0].device.type, enabled=False):
            outputs = [
                self._make(source, view, cropped, RandomNumbers(row))
                for source, view, row in zip(sources, self.views, rows.unbind(1), strict=True)
            ]
        pairs = list(zip(self.views, outputs, strict=True))
        return Views(
            large=tuple(images for view, images in pairs if view.size == self.size),
            small=tuple(images for view, images in pairs if view.size < self.size),
            labels=batch.labels,
            indices=batch.indices if len(batch.indices) else None,
        )

    def draw(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draws the random numbers for the views of a batch: (count, views, NUMBERS) in [0, 1), float64.

        In distributed training, every process draws the numbers of the global batch and uses its own rows. The views
        are then the same as in a single process.
        """
        if generator is not None and generator.device.type != "cpu":
            raise ValueError(
                f"random parameters are drawn on the CPU: pass a CPU generator, got one on {generator.device}"
            )
        return torch.rand(count, len(self.views), NUMBERS, generator=generator, dtype=torch.float64)

    def crop(self, image: Tensor, generator: Generator | None = None) -> tuple[Tensor, ...]:
        """Crops one image of any size for every view, like torchvision's RandomResizedCrop.

        Args:
            image: uint8, or float32 in [0, 1], (C, H, W), on the CPU, fastest in channels_last memory format.
            generator: CPU generator; None uses torch's default generator.

        Returns:
            One (C, size, size) per view, of the type of the image.

        Raises:
            ValueError: The image is not uint8 (C, H, W), or the generator is not on the CPU.
        """
        if image.dtype not in _DTYPES or image.ndim != 3:
            raise ValueError(
                f"crop expects one image (C, H, W), uint8 or float32, got {image.dtype} {tuple(image.shape)}"
            )
        check_unit_range(image)
        rows = self.draw(1, generator)
        height, width = image.shape[-2:]
        crops = []
        for view, numbers in zip(self.views, rows.unbind(1), strict=True):
            boxes = draw_boxes(RandomNumbers(numbers), height, width, view.crop_scale, view.crop_ratio)
            crops.append(resized_crop_bytes(image[None], boxes, view.size, view.interpolation)[0])
        return tuple(crops)

    def _make(self, source: Tensor, view: ViewConfig, cropped: bool, numbers: RandomNumbers) -> Tensor:
        """Makes one view of all images, in chunks small enough for the CPU cache."""
        count, channels, height, width = source.shape
        boxes = draw_boxes(numbers, height, width, view.crop_scale, view.crop_ratio)
        turns, stages = draw_turns(view, numbers), draw_stages(view, numbers, channels)
        erased = draw_erased(numbers, view).to(source.device, non_blocking=True)
        shape = (count, channels, view.size, view.size)
        output = torch.empty(shape, device=source.device, memory_format=torch.channels_last)
        shift, scale = channel_statistics(output, self.mean, self.std)
        step = max(1, _CACHED_PIXELS // view.size**2) if source.device.type == "cpu" else count
        for part in [slice(start, start + step) for start in range(0, count, step)]:
            images = source[part].clone() if cropped else _crop(source[part], boxes[part], view)
            images = run_stages([stage.part(part) for stage in turns], images)
            images = to_floats(images, torch.contiguous_format)
            images = run_stages([stage.part(part) for stage in stages], images, self._compiled and images.is_cuda)
            images = images.sub_(shift).div_(scale)
            output[part] = functional.erase(images, erased[part]) if view.erase_p > 0 else images
        return output

    def _check(self, batches: tuple[Tensor, ...], cropped: bool) -> None:
        for batch in batches:
            if batch.dtype not in _DTYPES or batch.ndim != 4:
                raise ValueError(
                    f"expected images (N, C, H, W), uint8 or float32 in [0, 1], got {batch.dtype} {tuple(batch.shape)}"
                )
            if not cropped and batch.device.type == "cpu":
                check_unit_range(batch)
        if cropped:
            sizes = [view.size for view in self.views]
            expected = [(*batches[0].shape[:2], size, size) for size in sizes] if batches else sizes
            shapes = [tuple(batch.shape) for batch in batches]
            if shapes != expected:
                raise ValueError(f"expected one batch per view with shapes {expected}, got {shapes}")


def _crop(images: Tensor, boxes: Tensor, view: ViewConfig) -> Tensor:
    """Crops and resizes uint8 images to uint8, and float images to floats."""
    if images.dtype == torch.uint8:
        return resized_crop_bytes(images, boxes, view.size, view.interpolation)
    boxes = boxes.to(images.device, non_blocking=True)
    crops = functional.resized_crop(images, boxes, view.size, view.interpolation)
    return crops.clamp_(0, 1) if view.interpolation == "bicubic" else crops
