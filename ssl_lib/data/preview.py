"""Preview of a data set: a few evenly spaced images and their augmented views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssl_lib.data.base import ImageData
from ssl_lib.data.workers import read_next
from ssl_lib.utils.seeding import seeded_generator

if TYPE_CHECKING:
    from ssl_lib.types import Views
    from ssl_lib.views import ViewPipeline

__all__ = ["preview"]


def preview(data: ImageData, pipeline: ViewPipeline, count: int, seed: int = 0) -> tuple[list[Tensor], Views]:
    """Returns evenly spaced images, each uint8 (C, H, W), and their views.

    Args:
        data: The images. An image that raises SkipImage is replaced by the next one.
        pipeline: The pipeline that makes the views.
        count: Number of images, in [1, N].
        seed: 0 or more.

    Raises:
        DataError: No image can be read.
        ValueError: The count is out of range.
    """
    if not 1 <= count <= len(data):
        raise ValueError(f"the number of images must be in [1, {len(data)}], got {count}")
    originals = [read_next(data, index * (len(data) - 1) // max(1, count - 1), [])[0] for index in range(count)]
    crops = [pipeline.crop(image, seeded_generator("crops", seed, i)) for i, image in enumerate(originals)]
    batches = tuple(torch.stack(view) for view in zip(*crops, strict=True))
    return originals, pipeline(batches, seeded_generator("views", seed))
