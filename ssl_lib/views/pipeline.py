"""From uint8 images to normalised views, in batches, on the device of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as torchvision_functional

from ssl_lib.types import Views
from ssl_lib.views import functional, resample
from ssl_lib.views.config import ViewConfig
from ssl_lib.views.sampling import draw_boxes, draw_mask, draw_stages, run_stages, single_stage

__all__ = ["ViewPipeline"]


class ViewPipeline:
    """Makes the views of a batch: crop, resize, flip, jitter, grayscale, blur, solarize, normalise.

    Every image has its own random parameters. They come from the CPU's generator, so that the same seed gives the
    same views on any device, and an operation runs only on the images that drew it, without waiting for the device.

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
        ValueError: There is no view, mean or std is empty, or a standard deviation is not positive.
    """

    def __init__(self, configs: Sequence[ViewConfig], mean: Sequence[float], std: Sequence[float]) -> None:
        self.views = tuple(replace(config, count=1) for config in configs for _ in range(config.count))
        if not self.views:
            raise ValueError("ViewPipeline needs at least one ViewConfig")
        self.size = max(view.size for view in self.views)
        self.mean, self.std = tuple(mean), tuple(std)
        if not self.mean or not self.std or min(self.std) <= 0:
            raise ValueError(
                f"mean and std need a number per channel or one for all, std positive; got {mean} and {std}"
            )

    @torch.no_grad()
    def __call__(self, images: Tensor | Sequence[Tensor], generator: Generator | None = None) -> Views:
        """Makes the views.

        Args:
            images: uint8 (N, C, H, W); or one uint8 (N, C, size, size) per view, as stacked from `crop`, which is
                neither cropped nor resized again.
            generator: On the CPU; None takes torch's default one.

        Returns:
            Views of (N, C, size, size), float32, without labels and indices.

        Raises:
            ValueError: The images are not uint8 batches of the right shapes, the generator is not on the CPU, or
                colour operations or mean and std do not fit the number of channels.
        """
        _check_generator(generator)
        cropped = not isinstance(images, Tensor)
        batches = tuple(images) if cropped else (images,)
        self._check(batches, cropped)
        with torch.autocast(batches[0].device.type, enabled=False):
            sources = [batch.float().div_(255) for batch in batches]
            if not cropped:
                sources *= len(self.views)
            pairs = [
                (view, self._make(source, view, cropped, generator))
                for source, view in zip(sources, self.views, strict=True)
            ]
        return Views(
            large=tuple(made for view, made in pairs if view.size == self.size),
            small=tuple(made for view, made in pairs if view.size < self.size),
        )

    def crop(self, image: Tensor, generator: Generator | None = None) -> tuple[Tensor, ...]:
        """Crops one image of any size for every view, as torchvision's RandomResizedCrop.

        Args:
            image: uint8 (C, H, W), on the CPU.
            generator: On the CPU; None takes torch's default one.

        Returns:
            One uint8 (C, size, size) per view.

        Raises:
            ValueError: The image is not uint8 (C, H, W), or the generator is not on the CPU.
        """
        _check_generator(generator)
        if image.dtype != torch.uint8 or image.ndim != 3:
            raise ValueError(f"crop takes one uint8 image (C, H, W), got {image.dtype} {tuple(image.shape)}")
        height, width = image.shape[-2:]
        crops = []
        for view in self.views:
            box = draw_boxes(1, height, width, view.crop_scale, view.crop_ratio, generator)[0].tolist()
            mode = InterpolationMode(view.interpolation)
            crops.append(torchvision_functional.resized_crop(image, *box, [view.size, view.size], mode, antialias=True))
        return tuple(crops)

    def _make(self, source: Tensor, view: ViewConfig, cropped: bool, generator: Generator | None) -> Tensor:
        count, channels, height, width = source.shape
        flip = draw_mask(count, view.flip_p, generator)
        stages = draw_stages(view, count, channels, generator)
        if cropped:
            images = run_stages([single_stage(_flip, flip), *stages], source)
        else:
            boxes = draw_boxes(count, height, width, view.crop_scale, view.crop_ratio, generator)
            boxes, flip = (drawn.to(source.device, non_blocking=True) for drawn in (boxes, flip))
            cubic = view.interpolation == "bicubic"
            images = resample.resized_crop(source, boxes, view.size, cubic, flip)
            images = run_stages(stages, images.clamp_(0, 1) if cubic else images)
        return functional.normalize(images, self.mean, self.std)

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


def _flip(images: Tensor, _: Tensor) -> None:
    images.copy_(images.flip(-1))


def _check_generator(generator: Generator | None) -> None:
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(f"random parameters are drawn on the CPU; pass a CPU generator, not {generator.device}")
